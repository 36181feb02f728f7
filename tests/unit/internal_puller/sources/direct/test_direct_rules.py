"""Direct mode's own rules: what its file may say, and when something is to be done."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from internal_puller.sources.direct.file import add_certificate, remove_certificate, render
from internal_puller.sources.direct.record import (
    Attempt,
    DirectFiles,
    DirectProgress,
    Issued,
    fingerprint,
)
from internal_puller.sources.direct.schedule import is_due, next_moment, wants_look
from internal_puller.sources.direct.settings import (
    KEY_ALGORITHMS,
    DirectCertificate,
    DirectSettings,
    certificate_from,
    load_direct,
)
from internal_puller.sources.direct.source import restored
from internal_puller.state.progress import LastError
from shared.contract.errors import (
    ConfigurationError,
    IssuanceRejected,
    LooseFileMode,
    NameRefused,
    PolicyError,
    RelayError,
)
from shared.contract.key_policy import KeyAlgorithm

CA = "https://ca.example.com/dir"
NOW = 1_800_000_000
WANTED = DirectCertificate("www.intra.example.com", ("www.intra.example.com",), "dns-01")
ISSUED = DirectProgress(
    generation=NOW,
    not_before=NOW,
    not_after=NOW + 90 * 86400,
    made_for=fingerprint(WANTED, CA),
    due_at=NOW + 60 * 86400,
    advice={"next_look": NOW + 600, "looked_at": 0},
    look_at=NOW + 600,
)


def due(progress: DirectProgress | None, now: float, *, unfinished: bool = False) -> bool:
    return is_due(progress, WANTED, [CA], now, unfinished=unfinished)


def changed(**members: object) -> DirectProgress:
    return dataclasses.replace(ISSUED, **members)  # type: ignore[arg-type]


BY_HAND = """\
# ours
directory = "https://ca.example.com/dir"
terms_agreed = true

[[certificate]]
# the mail server
names = ["mail.example.com"]  # MX
challenge = "dns-01"

# how records are written
[dns01]
resolvers = []

[dns01.hook]
command = ["/usr/local/sbin/set-txt"]  # mine

# another CA

[ca.other]
directory = "https://other.example.com/dir"
"""


def test_other_octets_of_its_file_stay(tmp_path: Path) -> None:
    path = tmp_path / "direct.toml"
    path.write_text(BY_HAND)
    path.chmod(0o600)
    for _ in range(3):
        add_certificate(path, WANTED)
        assert path.read_text().startswith(BY_HAND)
        added = path.read_text()
        add_certificate(path, dataclasses.replace(WANTED, profile="shortlived"))
        assert path.read_text() == added + 'profile = "shortlived"\n'
        mail = certificate_from(["mail.example.com"], "dns-persist-01")
        add_certificate(path, mail)
        remove_certificate(path, WANTED.certificate)
        known = load_direct(path)
        assert known is not None and known.certificates == (mail,)
        add_certificate(path, dataclasses.replace(mail, challenge="dns-01"))
        named = 'certificate = "mail.example.com"\n'
        assert path.read_text().replace(named, "") == BY_HAND
        path.write_text(BY_HAND)
    remove_certificate(path, "mail.example.com")
    for comment in ("# ours\n", "# how records are written\n", "  # mine\n", "# another CA\n"):
        assert comment in path.read_text()
    assert "\n\n\n" not in path.read_text()


def test_due_at_its_moment_and_not_before() -> None:
    assert due(None, NOW)
    assert not due(ISSUED, NOW + 60 * 86400 - 1)
    assert due(ISSUED, NOW + 60 * 86400)
    assert due(ISSUED, NOW, unfinished=True)
    assert due(changed(renew="asked for"), NOW)
    assert due(changed(generation=0), NOW)


@pytest.mark.parametrize(
    "wanted",
    [
        dataclasses.replace(WANTED, names=("app.example.org",)),
        dataclasses.replace(WANTED, key_algorithm="rsa-2048"),
        dataclasses.replace(WANTED, profile="shortlived"),
    ],
)
def test_something_else_is_wanted(wanted: DirectCertificate) -> None:
    assert is_due(ISSUED, wanted, [CA], NOW, unfinished=False)


def test_another_ca_is_a_wish_another_challenge_is_none() -> None:
    assert is_due(ISSUED, WANTED, ["https://other.example.com/dir"], NOW, unfinished=False)
    other = dataclasses.replace(WANTED, challenge="dns-persist-01", preferred_chain="X")
    assert not is_due(ISSUED, other, [CA], NOW, unfinished=False)


def test_a_pause_holds_until_its_end_and_not_after_the_clock_was_set_back() -> None:
    paused = changed(renew="x", paused_at=NOW, paused_until=NOW + 3600)
    assert not due(paused, NOW + 3599)
    assert not due(paused, NOW + 1, unfinished=True)
    assert due(paused, NOW + 3600)
    assert due(paused, NOW - 86400)


def test_looks() -> None:
    assert not wants_look(None, NOW)
    assert not wants_look(ISSUED, NOW + 599)
    assert wants_look(ISSUED, NOW + 600)
    assert wants_look(changed(advice={"looked_at": NOW + 86400}), NOW)
    assert not wants_look(DirectProgress(), NOW)


def test_when_to_look_again() -> None:
    assert next_moment(None, NOW) == NOW
    assert next_moment(ISSUED, NOW) == NOW + 600
    assert next_moment(changed(look_at=NOW + 10**9), NOW) == NOW + 86400
    paused = changed(paused_at=NOW, paused_until=NOW + 60, due_at=NOW, look_at=NOW + 10**9)
    assert next_moment(paused, NOW) == NOW + 60


def test_errors_are_restored_with_their_class() -> None:
    again = restored(LastError("issuance/rejected", "No.", NOW))
    assert type(again) is IssuanceRejected
    assert again.exit_code == 6
    assert type(restored(LastError("from-a-later-release", "x", NOW))) is RelayError


def test_key_algorithms_are_the_shared_ones() -> None:
    assert set(KEY_ALGORITHMS) == {str(one) for one in KeyAlgorithm}


# --- the file --------------------------------------------------------------------------------


def written(tmp_path: Path, text: str = "") -> Path:
    path = tmp_path / "direct.toml"
    path.write_text(text or render(DirectSettings(path, CA, terms_agreed=True)))
    path.chmod(0o600)
    return path


def test_what_init_writes_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "direct.toml"
    full = DirectSettings(
        path,
        CA,
        terms_agreed=True,
        contact=("mailto:ops@example.com",),
        ca_root=Path('/etc/"quoted".pem'),
        proxy="http://proxy.example.com:3128",
        eab_key_id="kid",
        eab_hmac_key_file=Path("/etc/eab.key"),
    )
    written(tmp_path, render(full))
    assert load_direct(path) == full
    assert "proxy.example.com" not in repr(full)
    assert load_direct(tmp_path / "none.toml") is None


def test_certificates_come_and_go_and_comments_stay(tmp_path: Path) -> None:
    path = written(tmp_path)
    idn = certificate_from(["bücher.example.org", "*.example.org"], "dns-persist-01")
    assert idn.certificate == "xn--bcher-kva.example.org"
    full = certificate_from(
        ["www.intra.example.com"],
        "dns-01",
        identifier="own-id",
        key_algorithm="rsa-3072",
        profile="shortlived",
        preferred_chain="Root X",
    )
    for one in (idn, full, idn):
        add_certificate(path, one)
    found = load_direct(path)
    assert found is not None
    assert found.certificates == (idn, full)
    assert found.find("*.example.org") == idn
    remove_certificate(path, "own-id")
    remove_certificate(path, idn.certificate)
    again = load_direct(path)
    assert again is not None
    assert again.certificates == ()
    assert "# dns-01: how TXT records are written." in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("terms_agreed = true", "directory is missing"),
        ('directory = "https://x:y"', "no https URL"),
        (f'directory = "{CA}"\nterms_agreed = 1', "neither true nor false"),
        (f'directory = "{CA}"\ncontact = ["ops@example.com"]', "no contact"),
        (f'directory = "{CA}"\nca_root = "root.pem"', "no absolute path"),
        (f'directory = "{CA}"\nproxy = "socks://x"', "no proxy URL"),
        (f'directory = "{CA}"\neab_key_id = "kid"', "go together"),
        (f'directory = "{CA}"\ndns01 = 1', "no table"),
        (f'directory = "{CA}"\ncertificate = 1', "[[certificate]]"),
        (f'directory = "{CA}"\n[[certificate]]\nnames = ["a.example.org"]', "needs names and"),
        (
            f'directory = "{CA}"\n[[certificate]]\nnames = ["../x"]\nchallenge = "dns-01"',
            "not a DNS name",
        ),
        (
            f'directory = "{CA}"\n'
            + '[[certificate]]\nnames = ["a.example.org"]\nchallenge = "dns-01"\n' * 2,
            "same id",
        ),
    ],
)
def test_bad_files(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load_direct(written(tmp_path, text))
    assert words in refused.value.what


def test_a_file_that_others_may_change(tmp_path: Path) -> None:
    path = written(tmp_path)
    path.chmod(0o666)
    with pytest.raises(LooseFileMode):
        load_direct(path)


def test_bad_certificates() -> None:
    with pytest.raises(NameRefused):
        certificate_from(["printer.local"], "dns-01")
    with pytest.raises(PolicyError, match="http-01 needs a server"):
        certificate_from(["a.example.org"], "http-01")
    with pytest.raises(PolicyError):
        certificate_from(["a.example.org"], "dns-01", identifier="../up")


# --- what is kept ----------------------------------------------------------------------------


def test_records_are_private_and_hide_keys(tmp_path: Path) -> None:
    files = DirectFiles(tmp_path / "state")
    (tmp_path / "state").mkdir(mode=0o700)
    files.create()
    own = files.of(WANTED.certificate)
    attempt = Attempt(NOW, WANTED.names, "x", CA, "SECRET", "csr", begun=True, order_url="u")
    issued = Issued(NOW, WANTED.names, "x", CA, "account", "SECRET", "chain", NOW)
    own.save_attempt(attempt)
    own.save_issued(issued)
    own.save_progress(changed(error=LastError("issuance", "x", 1), hurried=[1, 2]))
    assert (own.attempt(), own.issued()) == (attempt, issued)
    assert own.progress() == changed(error=LastError("issuance", "x", 1), hurried=[1, 2])
    assert "SECRET" not in repr(attempt) + repr(issued)
    assert all(path.stat().st_mode & 0o077 == 0 for path in tmp_path.rglob("state/**/*"))
    (own.path / "progress.json").write_text("{broken")
    assert own.progress() is None
    (own.path / "issued.json").write_text("[]")
    with pytest.raises(ConfigurationError, match="damaged"):
        own.issued()
    own.remove()
    assert not own.path.exists()


def test_account_urls(tmp_path: Path) -> None:
    (tmp_path / "direct").mkdir(mode=0o700)
    files = DirectFiles(tmp_path)
    files.save_account_url(CA, "https://ca.example.com/acct/1")
    assert files.account_url(CA) == "https://ca.example.com/acct/1"
    files.save_account_url(CA, None)
    assert files.account_url(CA) is None
    with pytest.raises(ConfigurationError, match="no ACME account key"):
        files.account_key()
