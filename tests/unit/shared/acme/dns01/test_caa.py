"""CAA: the relevant record set, who is permitted by it, and a refusal with the record in it."""

from __future__ import annotations

import dns.rdata
import dns.rdataclass
import dns.rdatatype
import pytest

from shared.acme.caa import CaaRecord, caa_objections, explain_caa_refusal, relevant_caa
from shared.contract.errors import IssuanceRejected, IssuanceUnavailable, OrderGone

NAME = "www.intra.example.com"
CA = ("ca.example.net",)


class Table:
    """CAA records by name; a name in `failing` cannot be looked up."""

    def __init__(self, records: dict[str, list[str]], failing: str = "") -> None:
        self._records, self._failing = records, failing

    def records(self, name: str, kind: str) -> tuple[dns.rdata.Rdata, ...]:
        if name == self._failing:
            raise IssuanceUnavailable(f"{name} could not be looked up.")
        return tuple(
            dns.rdata.from_text(dns.rdataclass.IN, dns.rdatatype.from_text(kind), text)
            for text in self._records.get(name, [])
        )


def test_the_closest_name_decides() -> None:
    table = Table({"com": ['0 issue "x"'], "example.com": ['0 issue "a.example"', '0 iodef "y"']})
    assert [str(one) for one in relevant_caa(table, f"*.{NAME}")] == [
        'example.com. CAA 0 issue "a.example"',
        'example.com. CAA 0 iodef "y"',
    ]
    assert relevant_caa(Table({}), NAME) == ()


def _objections(*records: tuple[int, str, str], wildcard: bool = False) -> list[str]:
    found = [CaaRecord("example.com", *one) for one in records]
    return [f"{one.tag} {one.value}" for one in caa_objections(found, CA, wildcard=wildcard)]


@pytest.mark.parametrize(
    ("records", "plain", "wildcard"),
    [
        ([], [], []),
        ([(0, "iodef", "mailto:x@example.com")], [], []),
        ([(0, "issue", "ca.example.net")], [], []),
        ([(0, "Issue", " CA.Example.NET. ; policy=ev")], [], []),
        ([(0, "issue", "other.example")], ["issue other.example"], ["issue other.example"]),
        ([(0, "issue", ";")], ["issue ;"], ["issue ;"]),
        ([(0, "issue", "other.example"), (0, "issue", "ca.example.net")], [], []),
        ([(0, "issue", "ca.example.net"), (0, "issuewild", ";")], [], ["issuewild ;"]),
        ([(0, "issue", ";"), (0, "issuewild", "ca.example.net")], ["issue ;"], []),
        ([(128, "tbs", "x"), (0, "issue", "ca.example.net")], ["tbs x"], ["tbs x"]),
        ([(0, "tbs", "x")], [], []),
        ([(0, "issue", "%%%")], ["issue %%%"], ["issue %%%"]),
        (
            [(0, "issue", "ca.example.net; validationmethods=dns-01"), (0, "issue", "x.example")],
            ["issue ca.example.net; validationmethods=dns-01"],
            ["issue ca.example.net; validationmethods=dns-01"],
        ),
    ],
)
def test_who_is_permitted(
    records: list[tuple[int, str, str]], plain: list[str], wildcard: list[str]
) -> None:
    assert _objections(*records) == plain
    assert _objections(*records, wildcard=True) == wildcard


def _refused(**problem: object) -> IssuanceRejected:
    return IssuanceRejected("The CA ended the order: caa: no.", problem=dict(problem))


CAA = "urn:ietf:params:acme:error:caa"


def test_a_refusal_names_the_record_and_the_one_to_add() -> None:
    table = Table({"example.com": ['0 issue "other.example"']})
    error = explain_caa_refusal(_refused(type=CAA), [NAME], lambda: CA, table)
    assert f'For {NAME} this decides: example.com. CAA 0 issue "other.example"' in error.what
    assert error.what.startswith("The CA ended the order: caa: no.")
    assert '(0 issue "ca.example.net")' in error.do
    assert error.problem == {"type": CAA}


def test_only_the_names_that_the_ca_complains_of() -> None:
    table = Table({"a.example.com": ['0 issue ";"'], "b.example.com": ['0 issue ";"']})
    problem = {
        "type": "urn:ietf:params:acme:error:compound",
        "subproblems": [{"type": CAA, "identifier": "b.example.com"}],
    }
    names = ["a.example.com", "b.example.com"]
    error = explain_caa_refusal(_refused(**problem), names, lambda: (), table)
    assert "b.example.com. CAA" in error.what
    assert "a.example.com. CAA" not in error.what
    assert "a name it does not tell" in error.do


def test_what_is_seen_from_here_may_differ() -> None:
    refused = _refused(type=CAA)
    assert (
        "no CAA record forbids it"
        in explain_caa_refusal(refused, [NAME], lambda: CA, Table({})).what
    )
    assert (
        "could not be read from here"
        in explain_caa_refusal(refused, [NAME], lambda: CA, Table({}, failing=NAME)).what
    )


def test_other_refusals_are_left_alone() -> None:
    def never() -> tuple[str, ...]:
        raise AssertionError

    for error in (_refused(type="urn:ietf:params:acme:error:dns"), OrderGone("gone")):
        assert explain_caa_refusal(error, [NAME], never, Table({})) is error
