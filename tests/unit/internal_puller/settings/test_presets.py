"""The table of presets, walked: an entry is whole wherever it is used. And presets.d."""

from __future__ import annotations

import dataclasses
import os
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from internal_puller.discovery.servers import READERS
from internal_puller.install.formats import FILE_NAMES
from internal_puller.settings.presets import catalogue
from internal_puller.settings.presets.catalogue import NAMES, Catalogue, known
from internal_puller.settings.presets.file import read_preset
from internal_puller.settings.presets.preset import PEM_FILES, Preset
from internal_puller.settings.protocols import PORTS
from internal_puller.settings.targets import Target, load_targets
from shared.contract.errors import ConfigurationError, LooseFileMode

ROOT = Path(__file__).parents[4]
EXAMPLES = sorted((ROOT / "deploy/presets.d").glob("*.toml"))
OPERATIONS = (ROOT / "docs/operations.md").read_text()
KNOWN = Path(catalogue.__file__).with_name("known")

GOOD = """title = "Gitea"
programs = ["gitea"]
units = ["gitea"]
test = []
reload = ["systemctl", "try-restart", "{unit}"]
without_systemd = []
restarts = true
patience = 60
formats = ["fullchain", "privkey"]
combined = []
probe = ["tls:3000"]
reads_as = "git"

[hints]
any = ["CERT_FILE = {current}/fullchain.pem", "KEY_FILE = {current}/privkey.pem"]
"""


def own(tmp_path: Path, text: str = GOOD, name: str = "gitea") -> Catalogue:
    directory = tmp_path / "presets.d"
    directory.mkdir(exist_ok=True)
    (directory / f"{name}.toml").write_text(text)
    return Catalogue(directory)


# --- those of the product --------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_is_everywhere(name: str) -> None:
    preset = known(name)
    written = tomllib.loads((KNOWN / f"{name}.toml").read_text())
    members = {one.name for one in dataclasses.fields(Preset)} - {"name", "version"}
    assert members <= set(written)
    assert f"`{name}`" in OPERATIONS
    assert f"| `{name}` |" in (ROOT / "docs/reference/settings.md").read_text()
    for shell in ("bash/internal-puller", "zsh/_internal-puller", "fish/internal-puller.fish"):
        words = re.split(r"[^a-z0-9-]+", (ROOT / "deploy/completion" / shell).read_text())
        assert name in words
    assert (name in READERS) != bool(preset.undiscovered)
    assert {protocol for protocol, _ in preset.probe} <= set(PORTS)
    assert set(preset.formats) <= set(FILE_NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_hints_name_files_that_the_preset_writes(name: str) -> None:
    for hint in known(name).hints:
        text = " ".join(hint.shown("/srv/tls/current"))
        named = {form for form, file in FILE_NAMES.items() if f"/srv/tls/current/{file}" in text}
        assert named, text
        assert named <= set(known(name).formats)
        assert "{" not in text.replace("ssl = {", "")
        assert named & {"combined", "pkcs12"} or named >= {"fullchain", "privkey"}


def test_a_preset_with_a_hole_cannot_be_made() -> None:
    whole = {one.name: getattr(known("nginx"), one.name) for one in dataclasses.fields(Preset)}
    Preset(**whole)
    for name in whole:
        with pytest.raises(TypeError, match=name):
            Preset(**{key: value for key, value in whole.items() if key != name})


# --- one's own -------------------------------------------------------------------------------


def test_a_preset_of_ones_own(tmp_path: Path) -> None:
    own(tmp_path)
    file = tmp_path / "targets.toml"
    file.write_text(
        '[[target]]\ncertificate = "a"\nnames = ["a.example.com"]\ndirectory = "/srv/a"\n'
        'preset = ["nginx", "gitea"]\n'
    )
    (target,) = load_targets(file)
    assert [one.title for one in target.presets] == ["nginx", "Gitea"]
    assert target.all_formats == PEM_FILES
    assert dataclasses.replace(target, keep=5).presets == target.presets


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("patience = 60", "patience = 60\nrelaod = 1", "unknown key 'relaod'; the nearest is 'rel"),
        ("patience = 60", "", "patience is missing"),
        ("patience = 60", "patience = 0", "patience must be 1 to 600 seconds"),
        ("patience = 60", 'patience = "60"', "patience is no number"),
        ("restarts = true", 'restarts = "yes"', "restarts is neither true nor false"),
        ("restarts = true", "restarts = false", "restarts must be true"),
        ('units = ["gitea"]', 'units = ["--now"]', "no name of a systemd unit"),
        ('"systemctl", "try-restart"', '"/usr/bin/systemctl", "restart"', "would start"),
        ('"systemctl", "try-restart"', '"sudo", "systemctl", "--quiet", "restart"', "would start"),
        ('"systemctl", "try-restart", "{unit}"', '"rc-service", "gitea", "restart"', "would start"),
        ("try-restart", "restart", "would start a server that somebody stopped"),
        ('"systemctl", "try-restart", "{unit}"', '"service", "gitea", "restart"', "would start"),
        ("test = []", 'test = ["x", "{unit}"]', "only reload may name {unit}"),
        ("tls:3000", "tsl:3000", "'tsl' is no"),
        ("tls:3000", "tls", "'tls' is not PROTOCOL:PORT"),
        ("tls:3000", "tls:0", "TCP port"),
        ('"fullchain", ', '"fulchain", ', "unknown 'fulchain'; the nearest is 'fullchain'"),
        ('"fullchain", "privkey"', '"fullchain"', "no certificate with its key"),
        ('["fullchain", "privkey"]', "[]", "formats is empty"),
        ("combined = []", 'combined = ["privkey", "fullchain"]', "which formats do not have"),
        ('"privkey"]\ncombined = []', '"combined"]\ncombined = ["x"]', "combined must hold"),
        ("{current}", "/srv", "hint names no file in {current}"),
        ("any = ", "2 = ", "hints has no lines for any version"),
        ("any = ", "new = ", "'new' is neither 'any' nor a version"),
        ("any = [", 'any = [] \n"2.0" = [', "hint has no lines"),
        ("any = [", 'any = ["{current}"] \n"2.0" = [', "hints by version need version"),
        ('title = "Gitea"', 'title = ""', "title is no text"),
        ('title = "Gitea"', "title = ", "is no TOML"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in GOOD
    presets = own(
        tmp_path, GOOD.replace(old, new, 1) if old != "{current}" else GOOD.replace(old, new)
    )
    with pytest.raises(ConfigurationError) as refused:
        presets.find("gitea")
    assert refused.value.what.startswith(str(tmp_path / "presets.d/gitea.toml"))
    assert said in refused.value.what
    assert refused.value.what.count("\n") <= 0


def test_a_name_that_there_is(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is a preset 'nginx' already") as refused:
        own(tmp_path, name="nginx").find("nginx")
    assert "another name" in (refused.value.do or "")


@pytest.mark.parametrize(
    ("name", "near"),
    [
        *(("nginxx", "nginx"), ("../nginx", "nginx"), ("NGINX", "nginx"), ("Gitea", "gitea")),
        *(("", ""), ("a b", ""), ("qqqq", "")),
    ],
)
def test_a_name_that_there_is_not(tmp_path: Path, name: str, near: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        own(tmp_path).find(name)
    end = f"; the nearest is {near!r}." if near else "."
    assert refused.value.what == f"There is no preset {name!r}{end}"
    assert "gitea" in (refused.value.do or "")


def test_a_file_that_no_target_uses_harms_nothing(tmp_path: Path) -> None:
    assert own(tmp_path, "nonsense").find("nginx") is known("nginx")


def test_others_may_not_write_what_root_runs(tmp_path: Path) -> None:
    presets = own(tmp_path)
    (tmp_path / "presets.d/gitea.toml").chmod(0o666)
    with pytest.raises(LooseFileMode):
        presets.find("gitea")
    (tmp_path / "presets.d/gitea.toml").chmod(0o644)
    (tmp_path / "presets.d").chmod(0o777)
    with pytest.raises(LooseFileMode):
        presets.find("gitea")


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file away")
def test_nor_may_the_service(tmp_path: Path) -> None:
    presets = own(tmp_path)
    os.chown(tmp_path / "presets.d/gitea.toml", 65534, -1)
    with pytest.raises(LooseFileMode, match="belongs to the account"):
        presets.find("gitea")


# --- examples --------------------------------------------------------------------------------


def test_there_are_examples() -> None:
    names = {path.stem for path in EXAMPLES}
    assert {"grafana", "gitlab", "keycloak", "jenkins", "proxmox", "nextcloud"} <= names
    assert not names & set(NAMES)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_can_be_used_and_says_that_it_is_untested(path: Path, tmp_path: Path) -> None:
    assert path.read_text().startswith("# UNTESTED: ")
    presets = own(tmp_path, path.read_text(), path.stem)
    more: dict[str, Any] = {}
    if "pkcs12" in presets.find(path.stem).formats:
        more["pkcs12_password_file"] = tmp_path / "password"
    Target("a", ("a.example.com",), Path("/srv/a"), preset=path.stem, catalogue=presets, **more)


def test_the_example_in_the_documents_can_be_used() -> None:
    after = OPERATIONS.partition("<!-- a preset -->\n```toml\n")[2]
    preset = read_preset("docs/operations.md", "gitea", after.partition("```")[0])
    assert preset.title == "Gitea"
