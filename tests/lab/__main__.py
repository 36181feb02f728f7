"""The lab as a process: `python -m tests.lab --dns-zone example.com ...`, until SIGTERM."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import tempfile
import threading
from pathlib import Path
from typing import Any

from .ca import PROFILES, LabCa
from .control import Control
from .split_dns import SplitDns


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.lab", description=__doc__)
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="where the CA and the outside DNS listen")
    add("--public-name", help="host in the CA's URLs")
    add("--port", type=int, default=0, help="the CA's port")
    add("--http-port", type=int, default=5002, help="where the lab's port 80 really is")
    add("--https-port", type=int, default=5001, help="where the lab's port 443 really is")
    add("--dns-zone", action="append", metavar="ZONE", help="default: example.com")
    add("--dns-inside-host", help="where the inside DNS listens")
    add("--dns-outside-port", type=int, default=0)
    add("--dns-inside-port", type=int, default=0)
    add("--record-outside", action="append", type=_pair, default=[], metavar="NAME=ADDR")
    add("--record-inside", action="append", type=_pair, default=[], metavar="NAME=ADDR")
    add("--validity", type=float, help="seconds, for orders without a profile")
    add(
        "--profile",
        action="append",
        type=_pair,
        metavar="NAME=SECONDS",
        help="the first is default",
    )
    add("--retry-after", type=int, default=1, help="seconds; -1 sends none")
    add("--persist-draft", type=int, choices=(1, 2), default=1)
    add("--eab", action="append", type=_pair, metavar="KID=HMAC", help="base64url; asks for EAB")
    add("--tsig-key", action="append", default=[], metavar="NAME", help="may change any TXT")
    add("--tsig-algorithm", default="hmac-sha256")
    add("--control-port", type=int, default=0)
    add("--ca-dir", type=Path, help="where the roots are written; default: a temporary directory")
    add("--state", type=Path, help="a file that holds the ready line while the lab runs")
    return parser.parse_args()


def _ca(options: argparse.Namespace, dns: SplitDns) -> LabCa:
    profiles: Any = PROFILES
    if options.profile:
        profiles = {name: float(value) for name, value in options.profile}
    return LabCa(
        resolver=dns.resolver,
        http_port=options.http_port,
        https_port=options.https_port,
        host=options.host,
        port=options.port,
        public_name=options.public_name,
        profiles=profiles,
        validity=options.validity,
        retry_after=None if options.retry_after < 0 else options.retry_after,
        persist_draft=options.persist_draft,
        eab=dict(options.eab) if options.eab else None,
    )


def _dns(options: argparse.Namespace) -> SplitDns:
    dns = SplitDns(
        *(options.dns_zone or ()),
        host=options.host,
        inside_host=options.dns_inside_host,
        outside_port=options.dns_outside_port,
        inside_port=options.dns_inside_port,
    )
    for view, records in (("outside", options.record_outside), ("inside", options.record_inside)):
        for name, address in records:
            dns.add(view, name, "AAAA" if ":" in address else "A", address)
    return dns


def _write_atomically(path: Path, text: str) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text)
    beside.replace(path)


def _roots(ca: LabCa, directory: Path) -> dict[str, str]:
    directory.mkdir(parents=True, exist_ok=True)
    shown = {}
    for name in ("tls_root", "root", "alternate_root"):
        path = directory / f"{name.replace('_', '-')}.pem"
        _write_atomically(path, getattr(ca, name + "_pem"))
        shown[name] = str(path)
    return shown


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    options = _arguments()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with contextlib.ExitStack() as stack:
        directory = options.ca_dir or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        dns = stack.enter_context(_dns(options))
        ca = stack.enter_context(_ca(options, dns))
        control = stack.enter_context(
            contextlib.closing(Control(ca, dns, port=options.control_port))
        )
        keys = [dns.add_key(name, options.tsig_algorithm) for name in options.tsig_key]
        ready = {
            "directory_url": ca.directory_url,
            **_roots(ca, directory),
            "dns_outside": list(dns.outside_address),
            "dns_inside": list(dns.inside_address),
            "http_port": options.http_port,
            "control_url": control.url,
            "tsig_keys": [
                {"name": k.name, "algorithm": k.algorithm, "secret": k.secret_base64} for k in keys
            ],
            "pid": os.getpid(),
        }
        line = json.dumps(ready)
        if options.state:
            _write_atomically(options.state, line + "\n")
            stack.callback(options.state.unlink, missing_ok=True)
        print(line, flush=True)
        stop.wait()


if __name__ == "__main__":
    main()
