"""Proven, shown, none, not known: each with its own words in status, verify, rehearsal, doctor."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from internal_puller.commands.installed import _not_as_in_place, _served
from internal_puller.doctor.served import served_findings
from internal_puller.facts.attention import attention
from internal_puller.facts.status import CertificateStatus, Status, TargetStatus, _target
from internal_puller.install.active import read_active
from internal_puller.install.presets import resolve
from internal_puller.outbox.look import Answer, Look, Trouble, matches, shows
from internal_puller.pull.rehearsal import _as_before
from internal_puller.settings.config import Settings
from internal_puller.settings.probe_point import ProbePoint
from internal_puller.settings.targets import Target
from shared.contract.diagnosis import Verdict
from tests.unit.internal_puller.install.helpers import NAME, material, put
from tests.unit.internal_puller.install.probe import fakes

Serving = AbstractContextManager[ProbePoint]


@dataclass
class Case:
    """A server, and what is said of it by everybody who looks.

    Attributes:
        matches: of status.
        cell: how the table's cell begins.
        attention, verify, rehearsal: words in the sentences; ``""`` for none at all.
        doctor: the verdicts of its findings.
    """

    serve: Callable[[Path, Path], Serving]
    answer: Answer
    matches: bool | None
    cell: str
    attention: str
    verify: str
    rehearsal: str
    doctor: tuple[Verdict, ...]
    trouble: Trouble | None = None
    limit: float = 20.0


def _context(place: Path) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(place / "fullchain.pem", place / "privkey.pem")
    return made


def _until_1_2(made: ssl.SSLContext) -> ssl.SSLContext:
    made.maximum_version = ssl.TLSVersion.TLSv1_2
    return made


def _other_suites(base: Path, current: Path) -> Serving:
    del base
    made = _until_1_2(_context(current))
    made.set_ciphers("aRSA")
    return fakes.server(fakes.tls(made))


CASES = {
    "proven": Case(
        lambda base, current: fakes.server(fakes.tls(_context(current))),
        *(Answer.PROVEN, True, "yes", "", "", "as before", (Verdict.OK,)),
    ),
    "shown": Case(
        lambda base, current: fakes.server(
            fakes.records(_until_1_2(_context(current)), 2, fakes.silent)
        ),
        *(Answer.SHOWN, True, "yes", "", "", "as before", (Verdict.NOTE,)),
        limit=2.0,
    ),
    "broken-off": Case(
        lambda base, current: fakes.server(fakes.records(_until_1_2(_context(current)), 2)),
        *(Answer.SHOWN, True, "yes", "no client can connect", "no client can connect"),
        *("Mind: no client can connect", (Verdict.NOTE, Verdict.PROBLEM)),
        Trouble.NO_HANDSHAKE,
    ),
    "another, mixed": Case(
        lambda base, current: fakes.server(fakes.tls(fakes.context(fakes.mixed_pair(base)))),
        *(Answer.SHOWN, False, "NO: ", "not what is in", "not served: "),
        *("Mind: it shows a certificate whose key", (Verdict.PROBLEM, Verdict.PROBLEM)),
        Trouble.MIXED_PAIR,
    ),
    "another": Case(
        lambda base, current: fakes.server(fakes.tls(fakes.context(fakes.pair(base)))),
        *(Answer.PROVEN, False, "NO: ", "not what is in", "not served: ", "as before"),
        (Verdict.PROBLEM,),
    ),
    "none": Case(
        lambda base, current: nullcontext(ProbePoint("127.0.0.1", 1, NAME)),
        *(Answer.NONE, False, "NO: ", "not what is in", "not served: ", "no certificate, as"),
        (Verdict.PROBLEM,),
    ),
    "other suites": Case(
        _other_suites,
        *(Answer.NONE, False, "NO: ", "not what is in", "not served: "),
        *("Mind: no client can connect", (Verdict.PROBLEM, Verdict.PROBLEM)),
        Trouble.NO_HANDSHAKE,
    ),
    "not known": Case(
        lambda base, current: fakes.server(fakes.silent),
        *(Answer.NOT_KNOWN, None, "not known: ", "cannot be seen from here"),
        *("cannot be seen from here", "cannot be seen from here", (Verdict.UNKNOWN,)),
        limit=0.3,
    ),
}


@pytest.fixture(params=CASES)
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Case, Target]]:
    case = CASES[request.param]
    target = Target(NAME, (NAME,), tmp_path / "live", probe_timeout=case.limit)
    put(target, 1)
    with case.serve(tmp_path, target.directory / "current") as point:
        yield case, replace(target, probe=(point,))


def test_each_answer_has_its_own_words_everywhere(served: tuple[Case, Target]) -> None:
    case, target = served
    status = _target(target, None, target.directory)
    (look,) = status.looks
    assert (look.answer, look.trouble, status.served_matches) == (
        case.answer,
        case.trouble,
        case.matches,
    )
    assert _served(status).startswith(case.cell)
    said = _attention(status)
    assert (case.attention in said) if case.attention else not said, said
    said = "; ".join(_not_as_in_place(status.looks, status.leaf_sha256))
    assert (case.verify in said) if case.verify else not said, said
    assert case.rehearsal in _as_before(look)
    findings = list(served_findings(resolve(target), read_active(target), NAME))
    assert tuple(one.verdict for one in findings) == case.doctor, findings
    assert all(one.do for one in findings if one.verdict is Verdict.PROBLEM)


def _attention(status: TargetStatus) -> str:
    certificate = CertificateStatus(NAME, (NAME,), 1, 1, False, None, (status,))
    settings = Settings(Path("/x/state"), Path("/x/targets.toml"), Path("/x/direct.toml"))
    facts = Status("", "", "", "", 0, 0, 0, None, (certificate,))
    return "; ".join(attention(facts, settings, 0.0))


def test_trouble_needs_attention_whatever_leaf_is_shown() -> None:
    look = Look("127.0.0.1", 443, NAME, Answer.SHOWN, "aa", 1, "why", Trouble.MIXED_PAIR)
    for leaf, more in (("aa", 0), ("bb", 1)):
        status = TargetStatus(
            "/srv/x", 1, 10**9, leaf, (), {}, None, (look,), matches((look,), leaf)
        )
        said = _attention(status).split("; ")
        assert len(said) == 1 + more
        assert "whose key it does not have" in said[-1]


def test_one_no_decides_then_one_not_known() -> None:
    yes = Look("10.0.0.1", 443, NAME, Answer.SHOWN, "aa", 1)
    other = Look("10.0.0.2", 443, NAME, Answer.PROVEN, "bb", 1)
    none = Look("10.0.0.3", 443, NAME, Answer.NONE, why="connection refused")
    unknown = Look("10.0.0.4", 443, NAME, Answer.NOT_KNOWN, why="no answer in time")
    assert matches((), "aa") is None
    assert matches((yes, yes), "aa") is True and shows((yes,), "aa")
    assert matches((yes, unknown), "aa") is None and not shows((yes, unknown), "aa")
    assert matches((unknown, other), "aa") is matches((none, unknown), "aa") is False


def test_nothing_in_place_and_nothing_to_look_at(tmp_path: Path) -> None:
    target = Target(NAME, (NAME,), tmp_path / "live", probe=())
    assert _served(_target(target, None, target.directory)) == "-" == _served(None)
    (finding,) = served_findings(resolve(target), None, NAME)
    assert finding.verdict is Verdict.UNKNOWN and "no probe" in finding.what
    with fakes.server(fakes.tls(fakes.context(fakes.pair(tmp_path)))) as point:
        (finding,) = served_findings(resolve(replace(target, probe=(point,))), None, NAME)
    assert finding.verdict is Verdict.NOTE and "somebody else's" in finding.what


def test_the_kind_in_place_is_asked_for(tmp_path: Path) -> None:
    """A listener shows everybody its ECDSA certificate; the one in place has an RSA key."""
    target = Target(NAME, (NAME,), tmp_path / "live", probe_timeout=20)
    put(target, 1)
    record = target.directory / "current/generation.json"
    rsa, ecdsa = fakes.pair(tmp_path, "rsa"), fakes.pair(tmp_path, "ecdsa")
    leaf = fakes.sha256(rsa)
    record.write_text(
        record.read_text().replace('"ecdsa"', '"rsa"').replace(material(1).leaf_sha256, leaf)
    )
    with fakes.server(fakes.tls(fakes.context(ecdsa, rsa))) as point:
        probed = replace(target, probe=(point,))
        assert _target(probed, None, target.directory).served_matches is True
        (finding,) = served_findings(resolve(probed), read_active(probed), NAME)
        assert finding.verdict is Verdict.OK
