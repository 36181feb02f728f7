"""docs/FORMAT.md: each rule has a mark, and each mark something that fails without it."""

from __future__ import annotations

import hmac
import re
from base64 import urlsafe_b64decode
from collections import Counter
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import verification
from cryptography.x509.oid import AttributeOID, NameOID

from external_agent.facts import quotas
from external_agent.relay import authentication, problems, signed_messages
from internal_puller import trust
from shared.contract import (
    batches,
    bundle,
    chain_rules,
    csr,
    enrolment_token,
    http_signatures,
    identifiers,
    key_policy,
    strict_json,
    wire,
)
from shared.contract import (
    x509 as certificates,
)
from shared.contract.errors import CsrRefused, MalformedBundle, MalformedMessage
from shared.contract.wire import Listing
from tests.vectors import generate
from tests.vectors.checks import CHECKS, outcome
from tests.vectors.csr_vectors import make
from tests.vectors.rules import MARK, PAGE, ROOT, SHOWN_BY, is_test
from tests.vectors.vector import read_all
from tests.vectors.world import NAME, Bundle, curve_key, envelope

TEXT = PAGE.read_text("utf-8")
VECTORS = {f"{kind}/{one.name}": one for kind in CHECKS for one in read_all(kind)}
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_SENTENCE_ENDS = re.compile(r"\.\s+(?=[A-Z`*\"])")
_NEW_BLOCK = re.compile(r"\n\s*\n|\n(?=\s*(?:[-*] |\d+\. |\|))")


def sentences() -> Iterator[str]:
    """Every sentence, list item and row after the introduction, without what stands in fences."""
    for block in _NEW_BLOCK.split(_FENCE.sub("", TEXT.split("\n## ", 1)[1])):
        yield from _SENTENCE_ENDS.split(block)


def rows(heading: str) -> list[list[str]]:
    """The cells of every table whose first line begins with ``heading``."""
    found = []
    for table in re.findall(r"(?:^\|.*\n)+", TEXT, re.MULTILINE):
        lines = [
            [cell.strip() for cell in line.strip("|\n").split(" | ")] for line in table.splitlines()
        ]
        if lines[0][0].strip("| ").startswith(heading):
            found += [[cell.strip("| ") for cell in line] for line in lines[2:]]
    assert found, heading
    return found


# --- marks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("sentence", [one for one in sentences() if "MUST" in one], ids=str)
def test_what_must_be_has_a_mark(sentence: str) -> None:
    last = sentence.rindex("MUST")
    assert MARK.search(sentence, last), sentence


def test_every_row_of_a_table_has_one() -> None:
    """But for sections 1, which defines words, 14 and 15, which have no rules of the wire."""
    rules = TEXT[TEXT.index("\n## 2. ") : TEXT.index("\n## 14. ")]
    for table in re.findall(r"(?:^\|.*\n)+", rules, re.MULTILINE):
        head, _, *lines = table.splitlines()
        assert head.endswith("| mark |"), head
        assert [line for line in lines if not re.search(MARK.pattern + r" \|$", line)] == []


def test_a_mark_stands_once() -> None:
    assert [mark for mark, count in Counter(MARK.findall(TEXT)).items() if count > 1] == []


def test_every_mark_is_shown_by_something_and_nothing_else_is() -> None:
    assert set(MARK.findall(TEXT)) == set(SHOWN_BY)
    assert [mark for mark, shown in SHOWN_BY.items() if not shown] == []


@pytest.mark.parametrize("mark", SHOWN_BY)
def test_what_shows_a_rule_exists(mark: str) -> None:
    for shown in SHOWN_BY[mark]:
        if is_test(shown):
            path, name = shown.split("::")
            assert f"\ndef {name}(" in (ROOT / path).read_text("utf-8"), shown
        else:
            assert any(fnmatchcase(name, shown) for name in VECTORS), shown


def test_every_vector_stands_for_a_rule() -> None:
    assert [name for name, one in VECTORS.items() if not one.head["rule"]] == []


@pytest.mark.parametrize("page", generate.pages(), ids=lambda page: str(page.name))
def test_pages_are_up_to_date(page: Any) -> None:
    assert page.read_text("utf-8") == generate.pages()[page], "python -m tests.vectors.generate"


# --- what the page says is what there is --------------------------------------------------------


def test_the_table_of_problems_is_the_product_s() -> None:
    said = {row[0].strip("`"): int(row[1]) for row in rows("type")}
    assert said == {slug: status for slug, (status, _) in problems._TITLES.items()}


def test_every_error_of_a_vector_is_on_the_page() -> None:
    assert {one.expect for one in VECTORS.values() if f"`{one.expect}`" not in TEXT} == set()


def test_the_table_of_limits_is_the_product_s() -> None:
    said = {row[-1].strip("[]"): row[1] for row in rows("of a message") + rows("of one puller, in")}
    numbers = {mark: re.sub(r"(?<=\d),(?=\d)", "", text) for mark, text in said.items()}
    expected = {
        "Y1": (http_signatures.MAX_BODY,),
        "Y2": (http_signatures.MAX_SIGNATURE_INPUT,),
        "Y3": (int(signed_messages._BODY_SECONDS),),
        "Y4": (wire.MAX_ANSWER // 1024**2,),
        "Y5": (wire.MAX_CERTIFICATES,),
        "Y6": (bundle.MAX_ENVELOPE, bundle.MAX_PAYLOAD),
        "Y7": (bundle._MAX_CHAIN_TEXT, bundle._MAX_SEALED),
        "Y8": (certificates.MAX_CHAIN,),
        "Y9": (csr.MAX_CSR,),
        "Y10": (enrolment_token._MAX_TEXT,),
        "Y11": (batches._ANSWER_OCTETS,),
        "Y20": (quotas.REDEMPTIONS,),
    }
    for mark, values in expected.items():
        assert tuple(map(int, re.findall(r"\d+", numbers[mark]))) == values, mark
    assert quotas.calls(7) == 60 + 4 * 7 + 2 * (1000 + 7)
    assert quotas.allowed(7) == 60 + 4 * 7
    assert quotas.direct_certificates(7) == 1000 + 7
    assert quotas.rehearsals(7) == 12 + 7
    assert quotas.event_bytes(7) == 1024**2 + 7 * 2048


# --- limits that are too large for a file -------------------------------------------------------


def _list_of(count: int) -> bytes:
    offer = wire.Offer("a", ("a.example.com",), 0, 0, "agent", False).members()
    return strict_json.encode({"certificates": [offer] * count, "come_back": 60, "version": "v"})


def test_a_list_of_4000() -> None:
    assert len(Listing.decode(_list_of(4000)).offers) == 4000
    with pytest.raises(MalformedMessage, match="at most 4000"):
        Listing.decode(_list_of(4001))


def test_a_payload_of_262144_octets() -> None:
    for size, fits in ((262_144, True), (262_145, False)):
        octets = strict_json.encode(envelope(b"x" * size))
        if fits:
            bundle.parse_envelope(octets)
            continue
        with pytest.raises(MalformedBundle):
            bundle.parse_envelope(octets)


@pytest.mark.parametrize(
    ("member", "largest", "more"),
    [
        ("chain", "x" * 200_000, "x" * 200_001),
        (
            "sealed_key",
            strict_json.encode_base64(bytes(16_384)),
            strict_json.encode_base64(bytes(16_385)),
        ),
    ],
)
def test_the_longest_chain_and_sealed_key(member: str, largest: str, more: str) -> None:
    bundle.Manifest.decode(Bundle(members={member: largest}).payload())
    with pytest.raises(MalformedBundle, match=member):
        bundle.Manifest.decode(Bundle(members={member: more}).payload())


def test_an_answer_to_receipts_of_512_kib() -> None:
    usual = b'{"refused":[]}'
    assert batches.BatchAnswer.decode(usual + b" " * (524_288 - len(usual))).refused == ()
    with pytest.raises(MalformedMessage, match="524288"):
        batches.BatchAnswer.decode(usual + b" " * (524_289 - len(usual)))


def test_a_csr_that_breaks_two_rules_is_refused_for_the_first() -> None:
    """Each of these breaks one rule and all that come after it, too."""
    organisation = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Example")])
    password = ((AttributeOID.CHALLENGE_PASSWORD, b"let me in"),)
    everything: dict[str, Any] = {"subject": organisation, "attributes": password}
    of_p521 = make("other.example.org", key=curve_key(ec.SECP521R1()), **everything)
    usual = make("other.example.org", **everything)
    broken = usual[:-1] + bytes([usual[-1] ^ 1])
    for octets, words in (
        (of_p521, "secp521r1"),
        (broken, "signature"),
        (usual, "challenge password"),
        (make("other.example.org", subject=organisation), "not granted"),
        (make(NAME, subject=organisation), "subject"),
    ):
        with pytest.raises(CsrRefused, match=words):
            csr.check_csr(octets, [NAME])


# --- without a check, what shows its rule fails -------------------------------------------------


def _nothing(*_: Any, **__: Any) -> None:
    return None


def _lax_base64url(text: str) -> bytes:
    """As many decoders do it: what does not belong there is passed over."""
    kept = re.sub("[^A-Za-z0-9_-]", "", text)
    return urlsafe_b64decode(kept[: len(kept) - (len(kept) % 4 == 1)] + "==")


def _agnostic() -> Any:
    return verification.ExtensionPolicy.permit_all()


REMOVED: dict[str, tuple[object, str, Any]] = {
    "P4": (identifiers, "_CERTIFICATE_ID", re.compile("")),
    "J3": (strict_json, "_unique", lambda pairs, refuse: dict(pairs)),
    "J4": (strict_json, "_integer", lambda digits, refuse: int(digits[:18])),
    "J5": (strict_json, "_check_strings", _nothing),
    "J6": (strict_json, "_check_depth", _nothing),
    "N2": (bundle, "is_a_label_name", lambda name: True),
    "B4.2": (trust, "_check_parties", _nothing),
    "B5.2": (trust, "_check_certificate", _nothing),
    "B6.1": (trust, "_check_generation", _nothing),
    "B7.2": (trust, "check_validity", _nothing),
    "B7.3": (trust, "_check_dates", _nothing),
    "B8.1": (chain_rules, "check_public_key", _nothing),
    "B8.3": (chain_rules, "_check_line", _nothing),
    "B8.6": (chain_rules, "_check_server_auth", _nothing),
    "B8.7a": (chain_rules, "_ca_policy", _agnostic),
    "B8.8": (chain_rules, "_leaf_policy", _agnostic),
    "B8.9": (chain_rules, "_check_path", _nothing),
    "B9.1": (trust, "check_names", _nothing),
    "B9.3": (identifiers.DnsName, "covers", lambda self, wanted: True),
    "B10.5": (trust, "check_key", _nothing),
    "K1": (key_policy, "algorithm_of", _nothing),
    "S1": (hmac, "compare_digest", lambda one, other: True),
    "R12": (authentication.Caller, "clock_difference", _nothing),
    "Y1": (signed_messages, "MAX_BODY", 2**30),
    "L2": (wire, "VERSION", re.compile("")),
    "L6": (wire, "MIN_COME_BACK", 0),
    "T3": (enrolment_token, "_base64url", _lax_base64url),
    "V7": (strict_json.Members, "_list", lambda self, name, most: self._take(name)),
    "Q5": (csr, "_check_key", _nothing),
    "Q6": (csr, "_check_signature", _nothing),
    "Q7": (csr, "_check_attributes", _nothing),
    "Q8": (csr, "_check_names", _nothing),
    "Q9": (csr, "_check_subject", _nothing),
}


@pytest.mark.parametrize("mark", REMOVED)
def test_a_vector_notices_that_a_check_is_gone(mark: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of those that are refused, if the rule has any: a success could only notice nonsense."""
    owner, name, instead = REMOVED[mark]
    of_mark = [name for name, one in VECTORS.items() if mark in one.head["rule"].split()]
    refused = [name for name in of_mark if VECTORS[name].expect != "success"]
    monkeypatch.setattr(owner, name, instead)
    assert any(_noticed(one) for one in refused or of_mark)


def _noticed(name: str) -> bool:
    vector = VECTORS[name]
    try:
        return outcome(name.split("/", maxsplit=1)[0], vector) != vector.expect
    except (AssertionError, KeyError, UnicodeError):  # accepted, and what follows makes no sense
        return True
