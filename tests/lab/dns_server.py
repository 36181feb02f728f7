"""DNS on the wire: UDP and TCP listeners, TSIG, faults; what is said comes from a view."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.TSIG
import dns.rrset
import dns.tsig
import dns.update

from .dns_faults import DnsFaults
from .dns_update import UpdateKey, apply_update
from .dns_zones import View


@dataclass(frozen=True)
class Query:
    """One message that came in, for tests to look at."""

    at: float
    view: str
    opcode: str
    name: str
    type: str
    transport: str
    rcode: str
    key: str | None


class DnsServer:
    """One view on one address, UDP and TCP on the same port."""

    def __init__(
        self,
        view_name: str,
        view: View,
        host: str,
        port: int,
        keys: Mapping[dns.name.Name, UpdateKey],
        faults: DnsFaults,
        queries: list[Query],
    ) -> None:
        self._name = view_name
        self._view = view
        self._keys = keys
        self._faults = faults
        self._queries = queries
        self._stopping = threading.Event()
        self._udp, self._tcp = _bind(host, port)
        self.address: tuple[str, int] = self._tcp.getsockname()[:2]
        self._threads = [
            threading.Thread(target=self._serve_udp, daemon=True, name=f"lab-dns-{view_name}"),
            threading.Thread(target=self._serve_tcp, daemon=True, name=f"lab-dns-{view_name}"),
        ]

    def start(self) -> None:
        """Begin to answer."""
        for thread in list(self._threads):
            thread.start()

    def close(self) -> None:
        """Stop; waits for the threads."""
        self._stopping.set()
        with contextlib.suppress(OSError):
            self._tcp.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            self._udp.shutdown(socket.SHUT_RDWR)  # wakes recvfrom although it says ENOTCONN
        for thread in list(self._threads):
            if thread.is_alive():
                thread.join(5)
        self._udp.close()
        self._tcp.close()

    def _serve_udp(self) -> None:
        while not self._stopping.is_set():
            try:
                wire, peer = self._udp.recvfrom(65535)
            except OSError:
                continue
            if self._stopping.is_set():
                return
            if self._faults.waiting("slow"):
                self._spawn(self._answer_udp, wire, peer)
            else:
                self._answer_udp(wire, peer)

    def _answer_udp(self, wire: bytes, peer: object) -> None:
        answer = self.respond(wire, "udp")
        if answer:
            with contextlib.suppress(OSError):
                self._udp.sendto(answer, peer)  # type: ignore[call-overload]

    def _serve_tcp(self) -> None:
        while not self._stopping.is_set():
            try:
                connection, _ = self._tcp.accept()
            except OSError:
                return
            self._spawn(self._serve_connection, connection)

    def _spawn(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads = [one for one in self._threads if one.is_alive()]
        self._threads.append(thread)
        thread.start()

    def _serve_connection(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(2)
            while not self._stopping.is_set():
                length = _exactly(connection, 2)
                wire = _exactly(connection, int.from_bytes(length))
                answer = self.respond(wire, "tcp")
                if not answer:
                    return
                connection.sendall(len(answer).to_bytes(2) + answer)

    def respond(self, wire: bytes, transport: str) -> bytes | None:
        """Return the answer to one message; None when there is to be none."""
        try:
            message = dns.message.from_wire(wire, keyring=False, one_rr_per_rrset=True)
        except (dns.exception.DNSException, ValueError):
            return wire[:2] + b"\x80\x01" + bytes(8) if len(wire) >= 12 else None
        if message.flags & dns.flags.QR or not message.question:
            return None
        question = message.question[0]
        if fault := self._faults.take("slow", self._name, question):
            self._stopping.wait(fault["seconds"])
        if self._faults.take("drop", self._name, question):
            self._note(message, transport, "dropped")
            return None
        response, key = self._authenticated(message, wire)
        if response.rcode() == dns.rcode.NOERROR:
            self._fill(message, response, key)
        truncated = transport == "udp" and self._faults.take("truncate", self._name, question)
        self._note(message, transport, dns.rcode.to_text(response.rcode()))
        limit = max(512, message.payload) if transport == "udp" else 65535
        return _to_wire(response, limit, bool(truncated))

    def _fill(
        self, message: dns.message.Message, response: dns.message.Message, key: UpdateKey | None
    ) -> None:
        question = message.question[0]
        if fault := self._faults.take("rcode", self._name, question):
            response.set_rcode(fault["rcode"])
        elif isinstance(message, dns.update.UpdateMessage):
            response.set_rcode(apply_update(message, self._view, self._name, key))
        elif message.opcode() != dns.opcode.QUERY or question.rdclass != dns.rdataclass.IN:
            response.set_rcode(dns.rcode.NOTIMP)
        elif question.rdtype in (dns.rdatatype.AXFR, dns.rdatatype.IXFR):
            response.set_rcode(dns.rcode.REFUSED)
        else:
            self._view.answer(question, response)

    def _authenticated(
        self, message: dns.message.Message, wire: bytes
    ) -> tuple[dns.message.Message, UpdateKey | None]:
        response = dns.message.make_response(message, recursion_available=True, our_payload=1232)
        response.tsig = None
        if message.tsig is None:
            return response, None
        key = self._keys.get(message.tsig.name)
        error = dns.rcode.BADKEY
        if key is not None:
            try:
                checked = dns.message.from_wire(wire, keyring=key.key)
            except dns.tsig.BadTime:
                error = dns.rcode.BADTIME
            except (dns.tsig.BadKey, dns.tsig.BadAlgorithm):
                error = dns.rcode.BADKEY
            except dns.exception.DNSException:
                error = dns.rcode.BADSIG
            else:
                response.use_tsig(key.key)
                response.request_mac = checked.mac or b""
                return response, key
        response.set_rcode(dns.rcode.NOTAUTH)
        response.tsig = _tsig_error(message.tsig, message.id, error)
        return response, None

    def _note(self, message: dns.message.Message, transport: str, rcode: str) -> None:
        question = message.question[0]
        shown = Query(
            at=time.time(),
            view=self._name,
            opcode=dns.opcode.to_text(message.opcode()),
            name=question.name.to_text(omit_final_dot=True),
            type=dns.rdatatype.to_text(question.rdtype),
            transport=transport,
            rcode=rcode,
            key=message.tsig.name.to_text(True) if message.tsig else None,
        )
        self._queries.append(shown)


def _tsig_error(
    signature: dns.rrset.RRset, message_id: int, error: dns.rcode.Rcode
) -> dns.rrset.RRset:
    """Return the unsigned TSIG record of a refusal (RFC 8945 section 5.2)."""
    rdata = dns.rdtypes.ANY.TSIG.TSIG(  # type: ignore[no-untyped-call]
        dns.rdataclass.ANY,
        dns.rdatatype.TSIG,
        signature[0].algorithm,
        int(time.time()),
        300,
        b"",
        message_id,
        error,
        b"",
    )
    return dns.rrset.from_rdata(signature.name, 0, rdata)


def _to_wire(response: dns.message.Message, limit: int, truncated: bool) -> bytes:
    if not truncated:
        try:
            return response.to_wire(max_size=limit)
        except dns.exception.TooBig:
            pass
    response.answer.clear()
    response.authority.clear()
    response.flags |= dns.flags.TC
    return response.to_wire(max_size=limit)


def _exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = connection.recv(count - len(data))
        if not part:
            raise ConnectionError
        data += part
    return data


def _bind(host: str, port: int) -> tuple[socket.socket, socket.socket]:
    """Return a UDP and a TCP socket on one port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for attempt in range(20):
        tcp = socket.create_server((host, port), family=family, backlog=128)
        udp = socket.socket(family, socket.SOCK_DGRAM)
        try:
            udp.bind((host, tcp.getsockname()[1]))
        except OSError:
            tcp.close()
            udp.close()
            if port or attempt == 19:
                raise
            continue
        return udp, tcp
    raise AssertionError
