"""What root gives to the service's account: the usual places, and nothing by way of a link."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import Any

import pytest

from external_agent.settings import handing_over
from external_agent.settings.config import Settings
from external_agent.settings.handing_over import eab_key, hand_over
from tests.unit.external_agent.harness import settings_in

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
NOBODY = pwd.getpwnam("nobody")


@pytest.fixture
def usual(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Settings]:
    """The usual places, here, with a file in each directory."""
    state, config = tmp_path / "state", tmp_path / "etc" / "agent.toml"
    for path in (state / "account.key", state / "relay-tls" / "key.pem", config, eab_key(config)):
        path.parent.mkdir(exist_ok=True)
        path.touch(mode=0o600)
    monkeypatch.setattr(handing_over, "ACCOUNT", "nobody")
    monkeypatch.setattr(handing_over, "default_config_path", lambda: config)
    monkeypatch.setattr(handing_over, "default_state_directory", lambda: state)
    return config, settings_in(state)


def test_state_becomes_the_accounts_and_settings_stay_roots(usual: tuple[Path, Settings]) -> None:
    config, settings = usual
    assert hand_over(config, settings)
    state = settings.state_directory
    for path in (state, *state.rglob("*")):
        assert (path.stat().st_uid, path.stat().st_gid) == (NOBODY.pw_uid, NOBODY.pw_gid), path
    for path in (config, eab_key(config)):
        status = path.stat()
        assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (0, NOBODY.pw_gid, 0o640)


def test_other_places_stay_as_they_are(usual: tuple[Path, Settings], tmp_path: Path) -> None:
    _config, settings = usual
    assert not hand_over(tmp_path / "other.toml", settings)
    assert settings.state_directory.stat().st_uid == 0


def test_links_bring_the_account_nothing(
    usual: tuple[Path, Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link to a file, another name of it, and a directory that is exchanged under way."""
    config, settings = usual
    state, others = settings.state_directory, tmp_path / "others"
    others.mkdir()
    for name in ("key.pem", "shadow"):
        (others / name).touch()
    (state / "link").symlink_to(others / "shadow")
    (state / "name").hardlink_to(others / "shadow")
    give = os.chown

    def exchanging(path: Any, uid: int, gid: int, **more: Any) -> None:
        if path == "key.pem" or str(path).endswith("relay-tls/key.pem"):
            (state / "relay-tls").rename(state / "away")
            (state / "relay-tls").symlink_to(others)
        give(path, uid, gid, **more)

    monkeypatch.setattr(handing_over.os, "chown", exchanging)
    assert hand_over(config, settings)
    assert [one.stat().st_uid for one in others.iterdir()] == [0, 0]
