"""The main job once more with Debian's Pebble as the CA, which asks port 80 of the VM."""

from __future__ import annotations

import contextlib
import json
import ssl
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.lab import SplitDns
from tests.lab.peers import clean_environment, require
from tests.line import active, leaf_sha256, wait_until

from .conftest import play
from .world import CA, INTERNET, INTRANET, WWW, World

pytestmark = [pytest.mark.topology, pytest.mark.timeout(180)]
MANAGEMENT = 15000


@contextlib.contextmanager
def pebble(built: World, base: Path) -> Iterator[str]:
    """Run Pebble at `ca.example.com` on real ports; give the root of its HTTPS."""
    base.mkdir()
    authority = trustme.CA()
    server = authority.issue_cert(CA, INTERNET)
    server.private_key_and_cert_chain_pem.write_to_path(str(base / "server.pem"))
    settings = {
        "listenAddress": f"{INTERNET}:443",
        "managementListenAddress": f"{INTERNET}:{MANAGEMENT}",
        "certificate": str(base / "server.pem"),
        "privateKey": str(base / "server.pem"),
        "httpPort": 80,
        "tlsPort": 443,
    }
    (base / "pebble.json").write_text(json.dumps({"pebble": settings}))
    argv = [require("pebble"), "-config", str(base / "pebble.json"), "-dnsserver", f"{INTERNET}:53"]
    with (base / "log").open("wb") as log:
        process = subprocess.Popen(
            built.internet.argv(*argv),
            stdout=log,
            stderr=log,
            env=clean_environment(PEBBLE_VA_NOSLEEP="1", PEBBLE_AUTHZREUSE="0"),
        )
    try:
        wait_until(lambda: "ACME directory available" in (base / "log").read_text())
        yield authority.cert_pem.bytes().decode()
    finally:
        process.terminate()
        process.wait(10)


def issuing_root(built: World, https_root: str) -> str:
    context = ssl.create_default_context(cadata=https_root)
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    with (
        built.internet.entered(),
        opener.open(f"https://{INTERNET}:{MANAGEMENT}/roots/0", timeout=5) as answer,
    ):
        return str(answer.read().decode())


def test_the_main_job_with_pebble(named_world: tuple[World, SplitDns], tmp_path: Path) -> None:
    built, _ = named_world
    with (
        pebble(built, tmp_path / "pebble") as https_root,
        play(built, f"https://{CA}/dir", https_root, tmp_path) as stage,
    ):
        token = stage.agent.add(WWW)
        root = issuing_root(built, https_root)
        with stage.agent.serving():
            stage.puller.enroll(token)
            directory = stage.puller.target(WWW, root, "--preset", "nginx")
            stage.configure_nginx(directory / "current")
            wait_until(lambda: stage.puller.pull() and active(directory), 60)
            assert built.challenges() >= 1
            seen = stage.visit(root)
            assert (seen["address"], seen["answer"]) == (INTRANET, "the intranet")
            assert seen["leaf_sha256"] == leaf_sha256(directory)
            first = active(directory)
            with stage.puller.running("run"):
                stage.agent.call("renew", WWW)
                wait_until(lambda: active(directory) != first, 60)
                wait_until(lambda: stage.visit(root)["leaf_sha256"] == leaf_sha256(directory))
            assert built.arrived() == 0
