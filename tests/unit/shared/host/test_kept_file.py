"""Files that a service would not see are kept beside the settings, and nothing else is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shared.contract.errors import ConfigurationError
from shared.host import kept_file

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root installs services")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that services do not see; beside it everything else is seen."""
    place = tmp_path / "home"
    place.mkdir()
    monkeypatch.setattr(kept_file, "_UNSEEN", (str(place),))
    return place


def test_a_copy_is_made_and_said(home: Path, tmp_path: Path) -> None:
    said: list[str] = []
    original, copy = home / "root.pem", tmp_path / "etc" / "roots" / "a.pem"
    for content in (b"one", b"two"):
        original.write_bytes(content)
        assert kept_file.keep(original, copy, mode=0o600, say=said.append) == copy
        assert (copy.read_bytes(), copy.stat().st_mode & 0o777) == (content, 0o600)
    assert len(said) == 2 and str(original) in said[0] and str(copy) in said[0]
    assert [path.name for path in copy.parent.iterdir()] == ["a.pem"]


def test_a_link_into_a_home_is_followed(home: Path, tmp_path: Path) -> None:
    (home / "root.pem").write_text("x")
    (tmp_path / "link.pem").symlink_to(home / "root.pem")
    copy = tmp_path / "etc" / "a.pem"
    assert kept_file.keep(tmp_path / "link.pem", copy, say=print) == copy


def test_what_is_seen_stays(home: Path, tmp_path: Path) -> None:
    (tmp_path / "root.pem").write_text("x")
    found = kept_file.keep(tmp_path / "root.pem", tmp_path / "copy.pem", say=pytest.fail)
    assert found == tmp_path / "root.pem"
    (home / "root.pem").write_text("x")
    found = kept_file.keep(home / "root.pem", home / "copy.pem", say=pytest.fail)
    assert found == home / "root.pem", "settings in a home are not those of a service"


def test_what_cannot_be_kept(home: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="There is no file"):
        kept_file.keep(home / "missing", tmp_path / "copy", say=print)
    (home / "root.pem").write_text("x")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigurationError, match="cannot be copied"):
        kept_file.keep(home / "root.pem", tmp_path / "file" / "copy", say=print)
