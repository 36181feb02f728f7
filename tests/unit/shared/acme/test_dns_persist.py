"""dns-persist-01 records: the draft's vectors, the grammar, and every verdict in words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.acme.authoritative import NameServer, ServerTexts, Texts
from shared.acme.dns_persist import (
    ANY_DOMAIN,
    Draft,
    Offer,
    Verdict,
    account_hash_uri,
    judge_records,
    offer_of,
    record_text,
    zone_line,
)
from shared.acme.dns_persist_use import (
    PersistSolver,
    advise,
    ask_offer,
    check,
)
from shared.acme.issue_value import NotAnIssueValue, canonical_issuer, parse_issue_value
from shared.acme.ports import (
    AuthorizationState,
    ChallengeState,
    DirectoryInfo,
    OrderState,
    PendingChallenge,
)
from shared.contract.errors import (
    ConfigurationError,
    DnsFailure,
    IssuanceRejected,
    IssuanceUnavailable,
)

NAME = "www.intra.example.com"
NOW = 1_800_000_000
ACCOUNT = "https://ca.example.net/acct/123"
THUMBPRINT = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
OFFER = Offer(ACCOUNT, THUMBPRINT, ("ca.example.net",))
HASHED = Offer(ACCOUNT, THUMBPRINT, ("ca.example.net",), "https://ca.example.net/account-hash/")
GOOD = f"ca.example.net; accounturi={ACCOUNT}"


@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        ("example.com", "5SQm7n6tPh2-PlLbCKGnViTXX5z19SCN4cPGQHSk-kw"),
        (ANY_DOMAIN, "NpDnSwUthQK8zCgFdefYxAdAVPnygMLbs9US6oO-5ug"),
    ],
)
def test_published_vectors(domain: str, expected: str) -> None:
    prefix = "https://ca.example/account-hash/"
    uri = account_hash_uri(prefix, domain, THUMBPRINT, "https://ca.example/acct/123")
    assert uri == f"{prefix}sha-256/{expected}"


# --- the grammar ---


@pytest.mark.parametrize(
    ("text", "issuer", "parameters"),
    [
        (b"ca.example.net", "ca.example.net", {}),
        (b" ca.example.net ;", "ca.example.net", {}),
        (b"", "", {}),
        (b";", "", {}),
        (b"ca.example.net.;a=b", "ca.example.net.", {"a": "b"}),
        (b"ca.example.net;A\t= b ; c-d=", "ca.example.net", {"a": "b", "c-d": ""}),
        (b"ca.example.net; accounturi=https://x/?a=b&c", None, {"accounturi": "https://x/?a=b&c"}),
    ],
)
def test_grammar(text: bytes, issuer: str | None, parameters: dict[str, str]) -> None:
    value = parse_issue_value(text)
    assert dict(value.parameters) == parameters
    assert issuer is None or value.issuer == issuer


@pytest.mark.parametrize(
    "text",
    [
        b"ca example.net",
        b"-ca.example.net",
        b"ca..example.net",
        b"ca.example.net; a",
        b"ca.example.net; a=b;",
        b"ca.example.net; a=b c",
        b"ca.example.net; a=b; A=c",
        b"ca.example.net; -a=b",
        b'"ca.example.net; a=b"',
        "c\u00e4.example.net; a=b".encode(),
        b"ca.example.net; a=\x00",
        b"ca.example.net\n; a=b",
    ],
)
def test_outside_the_grammar(text: bytes) -> None:
    with pytest.raises(NotAnIssueValue):
        parse_issue_value(text)


@given(st.binary(max_size=300))
def test_any_octets_are_judged(octets: bytes) -> None:
    finding = judge_records([[octets]], OFFER, NAME, wildcard=False, now=NOW)
    assert finding.verdict in (Verdict.MALFORMED, Verdict.WRONG_ISSUER)


def test_issuers_compare_as_a_labels() -> None:
    assert canonical_issuer("CA.Example.NET.") == "ca.example.net"
    assert canonical_issuer("B\u00fccher.example") == "xn--bcher-kva.example"


# --- what is written ---


def test_texts_and_zone_lines() -> None:
    text = record_text("ca.example.net", ACCOUNT, wildcard=True, until=NOW)
    assert text == f"{GOOD}; policy=wildcard; persistUntil={NOW}"
    assert (
        zone_line("*.app.example.org", text)
        == f'_validation-persist.app.example.org. 3600 IN TXT "{text}"'
    )


def test_long_text_is_split_for_a_zone_file() -> None:
    long = record_text("ca.example.net", "https://x/" + "a" * 300, wildcard=False, until=None)
    strings = zone_line(NAME, long).split(" TXT ", 1)[1].strip('"').split('" "')
    assert len(strings[0]) == 255
    assert "".join(strings) == long


def test_advice_in_both_drafts() -> None:
    both = Offer(ACCOUNT, THUMBPRINT, ("ca.example.net",), HASHED.hash_prefix, (ACCOUNT,))
    names = [NAME, "*.app.example.org"]
    found = advise(both, names, now=NOW, until=NOW + 1)
    assert [one.draft for one in found] == [Draft.WITH_HASH, Draft.WITH_URL] * 2
    assert ["policy=wildcard" in one.text for one in found] == [False, False, True, True]
    for one in found:
        stands = judge_records(
            [[one.text.encode()]], both, one.names[0], wildcard="*." in str(one.names), now=NOW
        )
        assert stands.verdict is Verdict.GOOD
        assert stands.until == NOW + 1


def test_one_text_for_every_domain() -> None:
    one, other = advise(HASHED, [NAME, "app.example.org"], now=NOW, any_domain=True)
    assert one.text == other.text
    for name in (NAME, "app.example.org"):
        stands = judge_records([[one.text.encode()]], HASHED, name, wildcard=False, now=NOW)
        assert stands.verdict is Verdict.GOOD
    with pytest.raises(ConfigurationError, match="draft -01 only"):
        advise(OFFER, [NAME], now=NOW, any_domain=True)
    with pytest.raises(ConfigurationError, match="in the past"):
        advise(OFFER, [NAME], now=NOW, until=NOW)


# --- what is found ---


@pytest.mark.parametrize(
    ("records", "verdict", "words"),
    [
        ([], Verdict.MISSING, "there is no TXT record"),
        ([[GOOD]], Verdict.GOOD, "the record is good"),
        ([[GOOD[:30], GOOD[30:]]], Verdict.GOOD, "in 2 strings"),
        ([[GOOD.replace("ca.ex", "CA.EX", 1).replace(";", ".;", 1)]], Verdict.GOOD, "good"),
        ([[GOOD + "; future=x"]], Verdict.GOOD, "good"),
        ([[GOOD.replace("; acc", " ;\t ACC")]], Verdict.GOOD, "good"),
        ([["other.example; accounturi=x"], [GOOD]], Verdict.GOOD, "good"),
        ([[GOOD.replace("ca.", "co.")]], Verdict.WRONG_ISSUER, "co.example.net, not for ca.exa"),
        ([[GOOD + "4"]], Verdict.WRONG_ACCOUNT, "/acct/1234 is not this account"),
        ([[GOOD.replace("https", "HTTPS")]], Verdict.WRONG_ACCOUNT, "is not this account"),
        ([[GOOD + f"; persistUntil={NOW - 1}"]], Verdict.EXPIRED, "is over since 2027-01-15"),
        ([[GOOD + f"; persistUntil={NOW}"]], Verdict.GOOD, "good"),
        ([[GOOD + "; persistUntil=tomorrow"]], Verdict.MALFORMED, "not unix seconds"),
        ([["ca.example.net"]], Verdict.MALFORMED, "cut at a ';'"),
        ([["ca.example.net; policy=wildcard"]], Verdict.MALFORMED, "has no accounturi"),
        ([[f'"{GOOD}"']], Verdict.MALFORMED, "quotation marks"),
        ([[GOOD.replace(";", "\\;")]], Verdict.MALFORMED, "backslash"),
        ([[GOOD + ";"]], Verdict.MALFORMED, "a parameter is empty"),
        ([[GOOD + f"; accounturi={ACCOUNT}"]], Verdict.MALFORMED, "twice"),
        ([[GOOD[30:]], [GOOD[:30]]], Verdict.SPLIT_RECORDS, "several TXT records"),
        ([["x y"], [GOOD + "4"]], Verdict.WRONG_ACCOUNT, "(2 TXT records, none is good)"),
    ],
)
def test_verdicts(records: list[list[str]], verdict: Verdict, words: str) -> None:
    strings = [[part.encode() for part in record] for record in records]
    finding = judge_records(strings, OFFER, NAME, wildcard=False, now=NOW)
    assert finding.verdict is verdict
    assert words in finding.words


def test_wildcards_want_the_policy() -> None:
    plain, wide = GOOD.encode(), f"{GOOD}; Policy=WILDCARD".encode()
    assert (
        judge_records([[plain]], OFFER, NAME, wildcard=True, now=NOW).verdict is Verdict.NO_WILDCARD
    )
    for wildcard in (True, False):
        finding = judge_records([[wide]], OFFER, NAME, wildcard=wildcard, now=NOW)
        assert finding.verdict is Verdict.GOOD


def test_the_longest_lasting_record_counts() -> None:
    records = [[f"{GOOD}; persistUntil={NOW + after}".encode()] for after in (5, 9, 7)]
    assert judge_records(records, OFFER, NAME, wildcard=False, now=NOW).until == NOW + 9
    endless = judge_records([*records, [GOOD.encode()]], OFFER, NAME, wildcard=False, now=NOW)
    assert endless.until is None


# --- the CA and the DNS, by doubles ---


class Ca:
    thumbprint = THUMBPRINT
    account_url = ACCOUNT

    def __init__(self, challenges: dict[str, dict[str, object]], **meta: object) -> None:
        self.challenges, self.meta, self.status = challenges, meta, "pending"
        self.identities = ("caa.example.net",)

    def directory(self) -> DirectoryInfo:
        url = "https://ca.example.net/"
        return DirectoryInfo(
            url, url, url, url, None, None, None, None, False, {}, self.identities, self.meta
        )

    def confirm_account(self) -> str:
        return ACCOUNT

    def new_order(self, names: object) -> OrderState:
        return OrderState("o", "pending", frozenset(), ("a",), "f")

    def fetch_authorization(self, url: str) -> AuthorizationState:
        challenges = tuple(
            ChallengeState(kind, "c", "pending", raw=raw) for kind, raw in self.challenges.items()
        )
        return AuthorizationState(url, NAME, False, self.status, challenges)


FIRST = {"issuer-domain-names": ["CA.example.net."], "accounturi": ACCOUNT}
SECOND = {"issuerDomainNames": ["ca.example.net"]}


def test_offer_of_the_first_draft() -> None:
    assert ask_offer(Ca({"dns-persist-01": FIRST}), [NAME]).drafts == (Draft.WITH_URL,)


def test_offer_of_the_second_draft_and_of_both() -> None:
    prefix = "https://ca.example.net/account-hash/"
    offer = ask_offer(Ca({"dns-persist-01": SECOND}, accountHashPrefix=prefix), [NAME])
    assert offer == HASHED
    both = ask_offer(Ca({"dns-persist-01": FIRST}, accountHashPrefix=prefix), [NAME])
    assert both.drafts == (Draft.WITH_HASH, Draft.WITH_URL)
    assert both.accepted(NAME) == {*HASHED.accepted(NAME), ACCOUNT}


def test_not_offered() -> None:
    with pytest.raises(
        IssuanceRejected, match=r"does not offer dns-persist-01 .* offers dns-01, http"
    ):
        ask_offer(Ca({"http-01": {}, "dns-01": {}}), [NAME])


def test_a_valid_authorization_shows_no_challenge() -> None:
    ca = Ca({"http-01": {}})
    ca.status = "valid"
    assert ask_offer(ca, [NAME]).issuers == ("caa.example.net",)
    ca.identities = ()
    with pytest.raises(IssuanceRejected, match="names no issuer"):
        ask_offer(ca, [NAME])


def test_another_account_than_the_cas() -> None:
    with pytest.raises(IssuanceRejected, match="acct/9, not"):
        ask_offer(Ca({"dns-persist-01": {**FIRST, "accounturi": ACCOUNT[:-3] + "9"}}), [NAME])


class Dns:
    def __init__(self, *servers: list[bytes] | str) -> None:
        self.servers = servers

    def texts(self, name: str) -> Texts:
        if not self.servers:
            raise IssuanceUnavailable("no zone")
        answers = [
            ServerTexts(NameServer(f"ns{i}", "192.0.2.1"), error=one)
            if isinstance(one, str)
            else ServerTexts(NameServer(f"ns{i}", "192.0.2.1"), tuple((text,) for text in one))
            for i, one in enumerate(self.servers)
        ]
        return Texts(name, "example.com", tuple(answers))


def test_every_server_counts() -> None:
    good = [GOOD.encode()]
    (report,) = check(OFFER, [NAME], Dns(good, "SERVFAIL"), NOW)
    assert report.good
    assert report.servers[1] == ("ns1 (192.0.2.1)", "SERVFAIL")
    (report,) = check(OFFER, [NAME], Dns(good, []), NOW)
    assert report.verdict is Verdict.MISSING
    assert "at ns1 (192.0.2.1)" in report.words
    for dns in (Dns(), Dns("SERVFAIL")):
        (report,) = check(OFFER, [NAME], dns, NOW)
        assert report.verdict is Verdict.UNKNOWN


def test_solver_refuses_before_the_challenge_is_answered() -> None:
    challenge = PendingChallenge(NAME, True, "dns-persist-01", "c", "", "", raw=FIRST)
    seen = []

    def solver(dns: Dns) -> PersistSolver:
        client = Ca({"dns-persist-01": FIRST})
        return PersistSolver(
            client, dns, clock=lambda: NOW, observe=lambda _, one: seen.append(one)
        )

    solver(Dns([f"{GOOD}; policy=wildcard".encode()])).present(challenge)
    solver(Dns()).present(challenge)
    with pytest.raises(DnsFailure, match="no policy=wildcard") as refused:
        solver(Dns([GOOD.encode()])).present(challenge)
    assert f'TXT "{GOOD}; policy=wildcard"' in refused.value.do
    assert [one.verdict for one in seen] == [
        Verdict.GOOD,
        Verdict.UNKNOWN,
        Verdict.NO_WILDCARD,
    ]


def test_meta_is_not_trusted() -> None:
    ca = Ca({}, accountHashPrefix=7, issuerDomainNames="x")
    offer = offer_of(ca.directory(), ACCOUNT, THUMBPRINT, [{"issuer-domain-names": [3, "", "a.b"]}])
    assert offer.issuers == ("a.b",)
    assert offer.hash_prefix is None
