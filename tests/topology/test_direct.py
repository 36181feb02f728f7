"""Direct mode where nobody reaches the intranet and no twin exists: one record, set by hand."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.lab import LabCa, SplitDns
from tests.line import active, wait_until

from .conftest import Inside, inside
from .test_main_job import knock
from .world import INTERNET, INTRANET, VM, WWW, World, lab_ca

pytestmark = [pytest.mark.topology, pytest.mark.timeout(300)]


def served(stage: Inside, ca: LabCa) -> bool:
    """Whether a visitor inside is shown what the CA issued last."""
    seen = stage.visit(ca.root_pem)
    return bool(seen["leaf_sha256"] == hashlib.sha256(ca.issued[-1].der).hexdigest())


def test_one_record_and_nothing_else(named_world: tuple[World, SplitDns], tmp_path: Path) -> None:
    built, dns = named_world
    dns.set("outside", WWW, "A")  # the Internet knows no address of it
    with lab_ca(built, dns) as ca, inside(built, tmp_path) as stage:
        puller = stage.puller
        root = tmp_path / "ca-tls-root.pem"
        root.write_text(ca.tls_root_pem)
        puller.call(
            *("direct", "init", "--ca", ca.directory_url, "--ca-root", str(root)),
            *("--contact", "mailto:ops@example.com", "--agree-terms"),
        )
        with (puller.base / "direct.toml").open("a") as file:
            file.write(f'[dns01]\nresolvers = ["{INTERNET}"]\n')
        puller.call("direct", "add", WWW, "--challenge", "dns-persist-01")
        directory = puller.target(WWW, ca.root_pem, "--preset", "nginx")
        stage.configure_nginx(directory / "current")

        # Before the record stands nothing is asked of the CA, and the old one is served.
        refused = puller.pull(expect=6)
        assert "no TXT record" in refused.err
        assert not ca.issued
        printed = puller.call("direct", "dns-persist", "record", WWW).out
        owner, _, text = printed.strip().splitlines()[-1].partition(" ")
        dns.set("outside", owner.rstrip("."), "TXT", text.partition("TXT ")[2])
        puller.call("direct", "dns-persist", "check", WWW)

        puller.call("direct", "renew", WWW)
        puller.pull()
        assert active(directory) is not None
        assert served(stage, ca)
        puller.call("direct", "renew", WWW)
        wait_until(lambda: puller.pull() and len(ca.issued) == 2)
        assert served(stage, ca)

        # Outward only: nobody was let in, the VM was never asked, and nothing listens but nginx.
        assert built.arrived() == 0
        assert built.challenges() == 0
        assert built.let_out() > 0
        for host in (built.internet, built.vm):
            before = built.dropped()
            assert knock(host, INTRANET, 443) == "dropped"
            assert built.dropped() > before
        assert knock(built.internet, VM, 80) == "refused"
        assert stage.listening() == {"nginx:443"}
