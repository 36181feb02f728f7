"""What needs an operator: each kind from its facts, grace after issuing, words in two languages."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from external_agent.facts.issues import (
    USUAL,
    Concern,
    Kind,
    Severity,
    concerns_of,
    concerns_of_direct,
    worst,
)
from external_agent.facts.overview import Overview, line_of
from external_agent.facts.persist import Seen
from external_agent.facts.policy import RELAY_CERTIFICATE
from external_agent.present.differences import differences
from external_agent.present.metrics.metric_families import unserved_seconds
from external_agent.present.wording import LANGUAGES, describe, reason
from external_agent.records.direct_rows import DirectRow
from external_agent.records.model import AttemptState, PullerStatus
from external_agent.records.rows import (
    CertificateRow,
    CertificateStatus,
    DeliveryStatus,
    ErrorNote,
    GenerationRow,
    MachineRow,
    PersistRow,
    ReceiptRow,
    ServedRow,
)
from external_agent.store.interface import Store
from external_agent.store.open import open_store
from shared.acme.dns_persist import Offer
from shared.contract.errors import InstallError
from shared.contract.key_policy import KeyAlgorithm
from shared.issuing.renewal import DAY, HOUR
from tests.big_store import fill

NAME, LEAF, NOW = "www.intra.example.com", "ab" * 32, 1_800_000_000

ROW = CertificateRow(
    id=NAME,
    names=(NAME,),
    key_origin="agent",
    key_algorithm=KeyAlgorithm.EC_P256,
    challenge="http-01",
    directory_url="https://ca.example.com/dir",
    profile=None,
    created_at=NOW - 100 * DAY,
    removed_at=None,
    wanted=1,
    satisfied=1,
    wanted_reason="added",
    due_at=NOW + 30 * DAY,
    paused_until=0,
    failures=0,
    last_error=None,
    highest_seen=0,
)
ISSUED = GenerationRow(
    certificate=NAME,
    generation=NOW - 30 * DAY,
    state=AttemptState.ISSUED,
    names=(NAME,),
    key_origin="agent",
    csr=b"",
    spki_sha256="cd" * 32,
    directory_url="https://ca.example.com/dir",
    profile=None,
    wanted=1,
    recipients=(),
    prepared_at=NOW - 30 * DAY,
    order_url=None,
    order_expires=None,
    certificate_url=None,
    chain=None,
    leaf_sha256=LEAF,
    serial="1",
    not_before=NOW - 30 * DAY,
    not_after=NOW + 60 * DAY,
    issued_at=NOW - 30 * DAY,
    error=None,
)
RECEIPT = ReceiptRow(
    puller="p",
    certificate=NAME,
    generation=ISSUED.generation,
    digest="ef" * 32,
    outcome="installed",
    error="none",
    served=(ServedRow(LEAF, NOW, None),),
    at=NOW - 29 * DAY,
    received_at=NOW - 29 * DAY,
)
DELIVERY = DeliveryStatus(
    puller="p" * 64,
    host="www",
    puller_status=PullerStatus.ACTIVE,
    last_seen_at=NOW - 600,
    offered=ISSUED.generation,
    pulled=ISSUED.generation,
    pulled_at=NOW - 29 * DAY,
    installed=ISSUED.generation,
    installed_at=NOW - 29 * DAY,
    served=RECEIPT.served,
    served_at=RECEIPT.at,
    served_matches=True,
    last_receipt=RECEIPT,
)
HEALTHY = CertificateStatus(
    certificate=ROW, issued=ISSUED, attempt=None, deliveries=(DELIVERY,), waits_for=""
)
REVOKED = {"revoked_at": NOW - 5}
FAILED = {"failures": 4, "last_error": ErrorNote("issuance/rejected", "CAA forbids.", NOW - 60)}
OLDER = ISSUED.generation - 1
OTHER = (ServedRow("99" * 32, NOW, None),)
RECORD = PersistRow(
    NAME,
    NAME,
    wildcard=False,
    offer=Offer("https://ca.example.com/acct/1", "t", ("ca.example.com",)),
    seen=Seen("good", "good", None, NOW - HOUR),
)


def row(**members: object) -> CertificateStatus:
    return replace(HEALTHY, certificate=replace(ROW, **members))  # type: ignore[arg-type]


def issued(**members: object) -> CertificateStatus:
    return replace(HEALTHY, issued=replace(ISSUED, **members))  # type: ignore[arg-type]


def delivery(**members: object) -> CertificateStatus:
    return replace(HEALTHY, deliveries=(replace(DELIVERY, **members),))  # type: ignore[arg-type]


def record(**members: object) -> CertificateStatus:
    seen = replace(RECORD.seen, **members)  # type: ignore[arg-type]
    return replace(HEALTHY, persist=(replace(RECORD, seen=seen),))


def received(outcome: str, error: str = "install/served-mismatch") -> ReceiptRow:
    return replace(RECEIPT, outcome=outcome, error=error)


@pytest.mark.parametrize(
    ("status", "kind", "severity"),
    [
        (issued(not_after=NOW - 1), Kind.EXPIRED, Severity.CRITICAL),
        (issued(not_after=NOW + 7 * DAY), Kind.EXPIRING, Severity.WARNING),
        (issued(not_after=NOW + DAY), Kind.EXPIRING, Severity.CRITICAL),
        (row(**FAILED), Kind.FAILING, Severity.WARNING),
        (row(**{**FAILED, "failures": 1}), Kind.FAILING, Severity.INFO),
        (
            issued(revoked_at=NOW - 5, revoked_reason="keyCompromise"),
            Kind.REVOKED,
            Severity.WARNING,
        ),
        (issued(revoked_at=NOW - 5, revoked_reason="superseded"), Kind.REVOKED, Severity.INFO),
        (replace(HEALTHY, issued=None), Kind.ISSUING, Severity.INFO),
        (replace(HEALTHY, issued=None, deliveries=()), Kind.NO_PULLER, Severity.INFO),
        (replace(HEALTHY, deliveries=()), Kind.NO_PULLER, Severity.WARNING),
        (row(key_origin="puller", due_at=NOW - 60), Kind.AWAITING_CSR, Severity.INFO),
        (row(key_origin="puller", due_at=NOW - DAY), Kind.AWAITING_CSR, Severity.WARNING),
        (
            delivery(served=OTHER, served_matches=False),
            Kind.SERVED_DIFFERS,
            Severity.WARNING,
        ),
        (
            delivery(
                last_receipt=received("installed", "install/not-running"), served_matches=False
            ),
            Kind.NOT_SERVED,
            Severity.WARNING,
        ),
        (
            delivery(
                last_receipt=received("installed", "install/cannot-be-seen"), served_matches=None
            ),
            Kind.NOT_SEEN,
            Severity.WARNING,
        ),
        (delivery(last_receipt=received("rolled_back")), Kind.ROLLED_BACK, Severity.WARNING),
        (delivery(last_receipt=received("refused")), Kind.REFUSED, Severity.WARNING),
        (delivery(last_receipt=received("failed")), Kind.PULLER_FAULT, Severity.WARNING),
        (delivery(last_receipt=received("removed")), Kind.NO_TARGET, Severity.INFO),
        (delivery(pulled=OLDER, installed=OLDER), Kind.NOT_PULLED, Severity.WARNING),
        (delivery(installed=OLDER), Kind.NOT_INSTALLED, Severity.WARNING),
        (delivery(last_seen_at=NOW - USUAL.silent - 1), Kind.PULLER_SILENT, Severity.WARNING),
        (
            delivery(puller_status=PullerStatus.SUSPENDED),
            Kind.PULLER_SUSPENDED,
            Severity.CRITICAL,
        ),
        (
            delivery(
                machines=(
                    MachineRow("1" * 32, "web1", NOW - 2 * DAY, NOW - 60),
                    MachineRow("2" * 32, "web1-copy", NOW - DAY, NOW - 30),
                )
            ),
            Kind.TWO_MACHINES,
            Severity.WARNING,
        ),
        (record(verdict="missing", words="there is none"), Kind.RECORD_BAD, Severity.WARNING),
        (record(until=NOW + 20 * DAY), Kind.RECORD_ENDS, Severity.WARNING),
        (record(until=NOW + 3 * DAY), Kind.RECORD_ENDS, Severity.CRITICAL),
    ],
)
def test_each_kind(status: CertificateStatus, kind: Kind, severity: Severity) -> None:
    found = concerns_of(status, NOW)
    assert [(one.kind, one.severity) for one in found] == [(kind, severity)]
    for language in ("en", "ja"):
        what, to_do = describe(found[0], language)  # type: ignore[arg-type]
        assert what and to_do
        assert " - " not in f" {what} ", "a fact is missing"


@pytest.mark.parametrize(
    ("installed", "en", "ja"), [(0, "", ""), (OLDER, f"Generation {OLDER} is in", f"世代 {OLDER}")]
)
def test_of_a_first_certificate_no_previous_one_is_spoken_of(
    installed: int, en: str, ja: str
) -> None:
    """Rolled back or refused: what is in place there is named, if anything is."""
    for outcome in ("rolled_back", "refused"):
        status = delivery(last_receipt=received(outcome), installed=installed)
        (found,) = concerns_of(status, NOW)
        english, japanese = describe(found)[0], describe(found, "ja")[0]
        assert en in english
        assert ja in japanese
        assert ("Generation" in english, "世代" in japanese) == (bool(installed), bool(installed))


def test_each_error_of_installing_has_words_in_both_languages() -> None:
    kinds = [kind.type for kind in InstallError.__subclasses__()]
    for error in kinds:
        for language in ("en", "ja"):
            assert reason(error, language) != error  # type: ignore[arg-type]
            assert reason(error, language).endswith(f"({error})")  # type: ignore[arg-type]
    assert reason("bundle/key-mismatch") == "bundle/key-mismatch"


def test_a_healthy_one_is_of_no_concern() -> None:
    assert concerns_of(HEALTHY, NOW) == ()
    assert concerns_of(record(), NOW) == ()
    assert worst(()) is Severity.OK


def test_right_after_an_issuance_nobody_is_late() -> None:
    young = replace(ISSUED, generation=NOW - 60, issued_at=NOW - 60)
    behind = replace(DELIVERY, offered=young.generation, served_matches=False)
    status = replace(HEALTHY, issued=young, deliveries=(behind,))
    assert concerns_of(status, NOW) == ()
    (late,) = concerns_of(status, NOW + USUAL.grace)
    assert late.kind is Kind.NOT_PULLED


def test_the_relays_own_has_no_pullers() -> None:
    own = replace(HEALTHY, certificate=replace(ROW, id=RELAY_CERTIFICATE), deliveries=())
    assert concerns_of(own, NOW) == ()


def test_a_revoked_puller_has_no_say() -> None:
    revoked = replace(DELIVERY, puller_status=PullerStatus.REVOKED, served_matches=False)
    assert concerns_of(replace(HEALTHY, deliveries=(DELIVERY, revoked)), NOW) == ()


def test_of_a_machine_without_a_target_nothing_is_expected() -> None:
    """Whatever it had said, and whether it is heard or not."""
    gone = replace(
        DELIVERY,
        last_receipt=received("removed"),
        last_seen_at=NOW - 9 * DAY,
        pulled=OLDER,
        installed=0,
        served=OTHER,
        served_matches=False,
    )
    for key_origin in ("agent", "puller"):
        certificate = replace(ROW, key_origin=key_origin, due_at=NOW - DAY)
        status = replace(HEALTHY, certificate=certificate, deliveries=(gone,), csr_waits=False)
        assert [one.kind for one in concerns_of(status, NOW)] == [Kind.NO_TARGET]
        assert unserved_seconds(status, NOW) == 0
    both = replace(HEALTHY, deliveries=(DELIVERY, gone))
    assert [one.kind for one in concerns_of(both, NOW)] == [Kind.NO_TARGET]
    line = line_of(both, NOW)
    assert (line.pulled, line.installed, line.served, line.hosts) == (True, True, True, ("www",))
    assert differences(both, NOW) == []
    assert line.severity is Severity.INFO


def test_direct_certificates() -> None:
    good = DirectRow(
        puller="p",
        host="www",
        puller_status=PullerStatus.ACTIVE,
        certificate=NAME,
        names=(NAME,),
        generation=NOW - 30 * DAY,
        not_after=NOW + 60 * DAY,
        leaf_sha256=LEAF,
        next_renewal=NOW + 30 * DAY,
        outcome="installed",
        error="none",
        served=(),
        at=NOW,
        received_at=NOW,
    )
    assert concerns_of_direct(good, NOW) == ()
    for members, kind in (
        ({"not_after": NOW - 1}, Kind.EXPIRED),
        ({"next_renewal": NOW - 2 * DAY}, Kind.EXPIRING),
        ({"outcome": "failed", "error": "issuance/rejected"}, Kind.FAILING),
        ({"outcome": "failed", "error": "configuration"}, Kind.PULLER_FAULT),
        ({"outcome": "rolled_back", "error": "install/served-mismatch"}, Kind.ROLLED_BACK),
        ({"error": "install/not-taken-up"}, Kind.NOT_SERVED),
        ({"error": "install/seen-before"}, Kind.NOT_SEEN),
    ):
        (found,) = concerns_of_direct(replace(good, **members), NOW)  # type: ignore[arg-type]
        assert found.kind is kind
        revoked = replace(good, puller_status=PullerStatus.REVOKED, **members)  # type: ignore[arg-type]
        assert concerns_of_direct(revoked, NOW) == ()


# --- words ------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", sorted(LANGUAGES))
def test_every_kind_has_words_with_the_same_facts(language: str) -> None:
    assert set(LANGUAGES[language]) == set(Kind)
    for kind, texts in LANGUAGES[language].items():
        english = LANGUAGES["en"][kind]
        facts = [set(re.findall(r"\{(\w+)\}", text)) for text in (*texts, *english)]
        assert facts[0] | facts[1] == facts[2] | facts[3], kind


def test_a_fact_that_is_not_known_is_a_dash() -> None:
    what, _ = describe(Concern(Kind.EXPIRED, Severity.CRITICAL, NAME, NOW))
    assert what == "The certificate expired at -."


# --- all of them ------------------------------------------------------------------------------


def test_the_worst_comes_first(tmp_path: Path) -> None:
    url = fill(tmp_path / "relay.db", 120, now=NOW)
    (tmp_path / "relay.db").chmod(0o600)
    store = open_store(url)
    overview = Overview(store, lambda: NOW)
    snapshot = overview.snapshot()
    assert snapshot is overview.snapshot()
    assert snapshot.counts == {Severity.WARNING: 4, Severity.OK: 116}
    first = [one.certificate[4:9] for one in snapshot.lines[:4]]
    assert first == ["00108", "00107", "00008", "00007"]
    assert len(snapshot.find(least=Severity.WARNING)) == 4
    (line,) = snapshot.find(text="HOST00011")
    assert (line.pulled, line.installed, line.served, line.hosts) == (
        True,
        True,
        True,
        ("web00011",),
    )
    assert [one.certificate for one in snapshot.find(puller=line.pullers[0])] == [line.certificate]
    store.close()


def test_slices_say_what_the_whole_says(tmp_path: Path) -> None:
    url = fill(tmp_path / "relay.db", 30, now=NOW)
    (tmp_path / "relay.db").chmod(0o600)
    store = open_store(url)
    whole = store.status(NOW)
    sliced = [store.status(NOW, after=one.certificate.id, limit=7) for one in whole[6::7]]
    assert [*whole[:7], *(one for page in sliced for one in page)] == whole
    assert [store.status(NOW, only=one.certificate.id)[0] for one in whole[:5]] == whole[:5]
    store.close()


def test_a_change_is_seen_at_the_next_look(store: Store) -> None:
    overview = Overview(store, lambda: NOW)
    assert overview.snapshot().lines == ()
    store.add_certificate(NAME, [NAME], directory_url="https://ca.example.com/dir", now=NOW)
    (line,) = overview.snapshot().lines
    assert [one.kind for one in line.concerns] == [Kind.NO_PULLER]
