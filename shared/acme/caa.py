"""Which CAA record forbids an issuance (RFC 8659, RFC 8657), in words for an operator."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import dns.rdata

from shared.acme.issue_value import NotAnIssueValue, canonical_issuer, parse_issue_value
from shared.acme.problems import plain_text, problem_code
from shared.contract.errors import IssuanceRejected, RelayError

_CRITICAL = 128
_KNOWN_TAGS = frozenset(("issue", "issuewild", "iodef", "issuemail", "issuevmc", "contactemail"))
_BINDING = ("accounturi", "validationmethods")
_MOST_NAMES = 10


class CaaSource(Protocol):
    """`shared.acme.authoritative.AuthoritativeDns` is one."""

    def records(self, name: str, kind: str) -> tuple[dns.rdata.Rdata, ...]: ...


@dataclass(frozen=True)
class CaaRecord:
    """One record and the name it stands at."""

    owner: str
    flags: int
    tag: str
    value: str

    def __str__(self) -> str:
        return f'{self.owner}. CAA {self.flags} {self.tag} "{plain_text(self.value)}"'


def relevant_caa(source: CaaSource, name: str) -> tuple[CaaRecord, ...]:
    """Return the relevant record set: that of the closest name upwards (RFC 8659 section 3).

    Raises:
        IssuanceUnavailable: a look-up failed.
    """
    labels = name.removeprefix("*.").split(".")
    for depth in range(len(labels)):
        owner = ".".join(labels[depth:])
        found = tuple(
            CaaRecord(owner, one.flags, one.tag.decode(), one.value.decode("ascii", "replace"))  # type: ignore[attr-defined]
            for one in source.records(owner, "CAA")
        )
        if found:
            return found
    return ()


def caa_objections(
    records: Sequence[CaaRecord], identities: Iterable[str], *, wildcard: bool
) -> tuple[CaaRecord, ...]:
    """Return the records that forbid, or may forbid, this CA to issue; none means it may.

    Records that name the CA, but bind it to an account or a method (RFC 8657), may forbid: only
    the CA knows whether they fit.
    """
    critical = tuple(
        one for one in records if one.flags & _CRITICAL and one.tag.lower() not in _KNOWN_TAGS
    )
    if critical:
        return critical
    of_tag = {
        tag: [one for one in records if one.tag.lower() == tag] for tag in ("issue", "issuewild")
    }
    deciding = (of_tag["issuewild"] if wildcard else []) or of_tag["issue"]
    accepted = {canonical_issuer(one) for one in identities}
    ours = [one for one in deciding if _issuer(one) in accepted]
    if any(not _binds(one) for one in ours):
        return ()
    return tuple(ours or deciding)


def explain_caa_refusal(
    error: IssuanceRejected,
    names: Sequence[str],
    identities: Callable[[], Sequence[str]],
    source: CaaSource,
) -> IssuanceRejected:
    """Return ``error`` with the CAA records that forbid; itself if it is not about CAA.

    Args:
        names: of the order.
        identities: gives `caaIdentities` of the CA's directory; only called when it is.
    """
    if not _is_caa(error.problem):
        return error
    accepted = identities()
    found = [
        line for name in _concerned(error.problem, names) if (line := _look(source, name, accepted))
    ]
    if not found:
        return error
    named = ", ".join(accepted)
    return IssuanceRejected(
        f"{error.what} {' '.join(dict.fromkeys(found))}",
        do=f'Add a CAA record that permits the CA (0 issue "{named}"), or use another CA.'
        if len(accepted) == 1
        else f"Permit the CA by CAA (it answers to {named or 'a name it does not tell'}), or use "
        "another CA.",
        retry_after=error.retry_after,
        problem=error.problem,
    )


def _look(source: CaaSource, name: str, identities: Sequence[str]) -> str:
    try:
        records = relevant_caa(source, name)
    except RelayError as failed:
        return f"The CAA records of {name} could not be read from here: {failed.what}"
    objections = caa_objections(records, identities, wildcard=name.startswith("*."))
    if not objections:
        return f"Seen from here, no CAA record forbids it for {name}."
    return f"For {name} this decides: {'; '.join(map(str, objections))}."


def _issuer(record: CaaRecord) -> str | None:
    try:
        return canonical_issuer(parse_issue_value(record.value.encode()).issuer)
    except NotAnIssueValue:
        return None


def _binds(record: CaaRecord) -> bool:
    parameters = parse_issue_value(record.value.encode()).parameters
    return any(tag in parameters for tag in _BINDING)


def _is_caa(problem: Mapping[str, object] | None) -> bool:
    return problem_code(problem) == "caa" or any(map(_is_caa, _subproblems(problem)))


def _concerned(problem: Mapping[str, object] | None, names: Sequence[str]) -> list[str]:
    """Return the names the CA complains of, else all, but not more than anybody would read."""
    about = [problem, *_subproblems(problem)]
    said = {str(one.get("identifier")) for one in about if one and problem_code(one) == "caa"}
    return [one for one in names if one.removeprefix("*.") in said or one in said] or list(
        names[:_MOST_NAMES]
    )


def _subproblems(problem: Mapping[str, object] | None) -> list[Mapping[str, object]]:
    listed = (problem or {}).get("subproblems")
    return [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
