"""The lab runs as a process, says where it is, can be told what to do, and goes when told to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab import DnsResolver
from tests.lab.peers import clean_environment, require

pytestmark = pytest.mark.lab

ROOT = Path(__file__).parents[3]
NAME = "www.intra.example.com"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[dict[str, Any]]:
    command = [
        sys.executable, "-m", "tests.lab", "--dns-zone", "example.com", "--http-port", "5002",
        "--record-outside", f"{NAME}=127.0.0.1", "--record-inside", f"{NAME}=127.0.0.2",
        "--validity", "600", "--tsig-key", "agent",
        "--ca-dir", str(tmp_path / "ca"), "--state", str(tmp_path / "state.json"),
    ]  # fmt: skip
    process = subprocess.Popen(
        command, cwd=ROOT, env=clean_environment(), stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
    assert not (tmp_path / "state.json").exists()


def call(lab: dict[str, Any], path: str, **body: Any) -> Any:
    data = json.dumps(body).encode() if body else None
    with urllib.request.urlopen(lab["control_url"] + path, data, timeout=5) as answer:
        return json.load(answer)


def test_the_lab_as_a_process(lab: dict[str, Any], tmp_path: Path) -> None:
    assert json.loads((tmp_path / "state.json").read_text()) == lab
    assert lab["directory_url"].startswith("https://127.0.0.1:")
    for name in ("tls_root", "root", "alternate_root"):
        assert Path(lab[name]).read_text().startswith("-----BEGIN CERTIFICATE-----")
    outside, inside = (DnsResolver(tuple(lab[f"dns_{view}"])) for view in ("outside", "inside"))
    assert (outside.addresses(NAME), inside.addresses(NAME)) == (["127.0.0.1"], ["127.0.0.2"])
    assert lab["tsig_keys"][0]["algorithm"] == "hmac-sha256"

    call(lab, "/dns", view="outside", name=NAME, type="A", values=["127.0.0.9"])
    assert outside.addresses(NAME) == ["127.0.0.9"]
    assert call(lab, "/faults", fault="bad_nonce", times=2) == {"fault": "bad_nonce"}
    call(lab, "/renewal", start=1_800_000_000, end=1_800_000_600)
    call(lab, "/clear")
    state = call(lab, "/state")
    assert (state["orders"], state["issued"]) == ([], [])
    assert state["dns"][0]["view"] == "outside"


def test_a_missing_peer_is_skipped_here_and_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    assert os.access(require("sh"), os.X_OK)
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no-such-peer is not installed"):
        require("no-such-peer")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no-such-peer is not installed"):
        require("no-such-peer")
