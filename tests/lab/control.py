"""A plain HTTP door into a lab that runs as a process: see what it did, change what it does.

GET  /state                       orders, certificates, requests, DNS messages
POST /faults   {"fault": "bad_nonce", ...}        a method of `Faults` and its arguments
POST /dns      {"view": "outside", "name": ..., "type": "A", "values": [...]}
POST /dns-faults {"fault": "drop", ...}           a method of `DnsFaults`
POST /renewal  {"start": unix, "end": unix, "certid": optional, "explanation_url": optional}
POST /clear                       no faults any more
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any

from .ca import LabCa
from .ca_pki import pem
from .ca_protocol import document
from .http_server import Answer, HttpServer, Request
from .split_dns import SplitDns


class Control:
    """The door; listens on loopback until closed."""

    def __init__(self, ca: LabCa, dns: SplitDns, host: str = "127.0.0.1", port: int = 0) -> None:
        self._ca = ca
        self._dns = dns
        self._server = HttpServer(self._answer, host, port, None)
        self.url = f"http://{host}:{self._server.port}"
        self._server.start()

    def close(self) -> None:
        """Stop."""
        self._server.close()

    def _answer(self, request: Request) -> Answer:
        action = getattr(self, "_do" + request.path.replace("/", "_").replace("-", "_"), None)
        if action is None:
            return Answer(404)
        try:
            return document(action(**json.loads(request.body or b"{}")))
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            return document({"error": repr(error)}, 400)

    def _do_state(self) -> dict[str, Any]:
        ca = self._ca
        return {
            "orders": [
                {
                    "url": order.url,
                    "names": order.names,
                    "status": order.status,
                    "created": order.created,
                    "account": order.account.url,
                    "profile": order.profile,
                    "replaces": order.replaces,
                }
                for order in ca.orders
            ],
            "issued": [
                {
                    "at": issued.at,
                    "names": issued.names,
                    "sha256": hashlib.sha256(issued.der).hexdigest(),
                    "certid": issued.certid,
                    "order": issued.order.url,
                    "chain": pem(issued.chains[0]),
                }
                for issued in ca.issued
            ],
            "log": [{**asdict(e), "payload": e.payload.decode("utf-8", "replace")} for e in ca.log],
            "dns": [asdict(query) for query in self._dns.queries],
        }

    def _do_faults(self, fault: str, **arguments: Any) -> dict[str, Any]:
        return self._inject(self._ca.faults, fault, arguments)

    def _do_dns_faults(self, fault: str, **arguments: Any) -> dict[str, Any]:
        return self._inject(self._dns.faults, fault, arguments)

    @staticmethod
    def _inject(faults: object, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        if name.startswith("_"):
            raise ValueError(name)
        added = getattr(faults, name)(**arguments)
        return {"fault": added.kind}

    def _do_clear(self) -> dict[str, Any]:
        self._ca.faults.clear()
        self._dns.faults.clear()
        return {}

    def _do_dns(self, view: str, name: str, type: str, values: list[str]) -> dict[str, Any]:  # noqa: A002
        self._dns.set(view, name, type, *values)
        return {"values": self._dns.get(view, name, type)}

    def _do_renewal(
        self,
        start: float | None = None,
        end: float | None = None,
        certid: str | None = None,
        retry_after: int | None = 21600,
        explanation_url: str | None = None,
    ) -> dict[str, Any]:
        window = None if start is None or end is None else (start, end)
        self._ca.set_renewal_window(window, certid)
        self._ca.set_renewal_answer(retry_after=retry_after, explanation_url=explanation_url)
        return {}
