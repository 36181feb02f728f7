"""Direct mode with Debian's Pebble: dns-01 by real BIND with split views, and by a command."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.bind import Bind
from tests.line import Puller, active, leaf_sha256
from tests.pebble import ChallTestSrv, Pebble, available

NAME = "www.intra.example.com"
pytestmark = [
    pytest.mark.pebble,
    pytest.mark.skipif(not available(), reason="Debian's pebble is not installed"),
]

HOOK = """\
import json, os, urllib.request
host = os.environ["RECORD"] + "."
call, body = "clear-txt", {"host": host}
if os.environ["ACTION"] == "present":
    call, body = "set-txt", {"host": host, "value": os.environ["VALUE"]}
urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
    "MANAGEMENT/" + call, data=json.dumps(body).encode(), timeout=10
)
"""


def machine(base: Path, ca: Pebble, dns01: str, *names: str) -> tuple[Puller, Path]:
    """Return a puller with one direct certificate, and where it is installed."""
    puller = Puller(base / "puller")
    puller.call(
        *("direct", "init", "--ca", ca.directory_url, "--ca-root", str(ca.minica)),
        *("--contact", "mailto:ops@example.com", "--agree-terms"),
    )
    with (puller.base / "direct.toml").open("a") as file:
        file.write(dns01)
    puller.call("direct", "add", *names, "--challenge", "dns-01")
    identifier = json.loads(puller.call("direct", "list", "--json").out)[0]["certificate"]
    return puller, puller.target(identifier, ca.issuing_root().decode())


def test_dns_update_to_bind(tmp_path: Path) -> None:
    with Bind({"example.com": {}}) as bind:
        address = f"{bind.outside[0]}:{bind.outside[1]}"
        key = bind.key.write(tmp_path / "tsig.key")
        with Pebble(dns=address, http_port=1, nonce_reject=20) as ca:
            puller, directory = machine(
                tmp_path,
                ca,
                f'[dns01]\nresolvers = ["{address}"]\nname_servers = ["{address}"]\n'
                f'[dns01.rfc2136]\nserver = "{address}"\nkey_file = "{key}"\n',
                *("intra.example.com", "*.intra.example.com"),
            )
            assert "installed" in puller.pull().out
            first = leaf_sha256(directory)
            puller.call("verify")
            puller.call("direct", "renew", "intra.example.com")
            puller.pull()
            assert leaf_sha256(directory) != first


def test_a_command_writes_the_records(tmp_path: Path) -> None:
    with ChallTestSrv(serve_http=False) as dns, Pebble(dns=dns.dns, http_port=1) as ca:
        hook = tmp_path / "hook.py"
        hook.write_text(HOOK.replace("MANAGEMENT", dns.management))
        puller, directory = machine(
            tmp_path,
            ca,
            f'[dns01]\nresolvers = ["{dns.dns}"]\nwait = false\n'
            f"[dns01.hook]\ncommand = {json.dumps([sys.executable, str(hook)])}\n",
            NAME,
        )
        assert "installed" in puller.pull().out
        assert active(directory) is not None
