"""The command that writes records: what it is told, and how its failures read."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.acme.dns01.hook import HookPublisher
from shared.acme.dns01.names import TxtRecord
from shared.acme.dns01.settings import HookSettings
from shared.contract.errors import ConfigurationError, DnsFailure

RECORD = TxtRecord(
    domain="www.intra.example.com",
    owner="www.intra.challenges.example.org",
    zone="",
    value="a" * 43,
)


def hook(path: Path, body: str, timeout: float = 10.0) -> HookPublisher:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return HookPublisher(HookSettings((str(path), "one word; not two"), timeout))


def test_it_is_told_everything_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_AGENT", "x")
    seen = tmp_path / "seen"
    publisher = hook(tmp_path / "hook", f'echo "$1" >>{seen}; env >>{seen}')
    publisher.add(RECORD)
    publisher.remove(RECORD)
    lines = seen.read_text().splitlines()
    facts = [one for one in lines if one.split("=")[0] in ("ACTION", "DOMAIN", "RECORD", "VALUE")]
    about = [f"DOMAIN={RECORD.domain}", f"RECORD={RECORD.owner}", f"VALUE={RECORD.value}"]
    assert sorted(facts[:4]) == ["ACTION=present", *about]
    assert sorted(facts[4:]) == ["ACTION=cleanup", *about]
    assert lines.count("one word; not two") == 2
    assert not any("SECRET_OF_THE_AGENT" in one for one in lines)


def test_failures_in_words(tmp_path: Path) -> None:
    with pytest.raises(DnsFailure, match=r"ACTION present\) ended with exit code 3: no such zone"):
        hook(tmp_path / "a", "echo no such zone; exit 3").add(RECORD)
    child = tmp_path / "child"
    slow = hook(tmp_path / "b", f"sleep 60 & echo $! >{child}; sleep 60", timeout=0.3)
    with pytest.raises(DnsFailure, match=r"ACTION cleanup\) did not end within 0.3 s"):
        slow.remove(RECORD)
    state = Path(f"/proc/{child.read_text().strip()}/stat")
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_program_that_does_not_exist_is_found_out_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="does not exist or cannot be executed"):
        HookPublisher(HookSettings((str(tmp_path / "none"),)))
