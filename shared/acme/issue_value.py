"""The issue-value grammar of RFC 8659 section 4.2, which CAA and dns-persist-01 records share."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import idna

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_ISSUER = re.compile(rf"(?:{_LABEL})(?:\.{_LABEL})*\.?\Z")
_PARAMETER = re.compile(rf"({_LABEL})[ \t]*=[ \t]*([\x21-\x3a\x3c-\x7e]*)\Z")


class NotAnIssueValue(ValueError):
    """Outside the grammar; the text says where."""


@dataclass(frozen=True)
class IssueValue:
    """`issuer` as it was written, empty if there is none; parameters by their lower-case tag."""

    issuer: str
    parameters: Mapping[str, str]


def parse_issue_value(octets: bytes) -> IssueValue:
    """Return what a record says, with white space where the grammar allows it.

    One dot at the end of the issuer is passed over.

    Raises:
        NotAnIssueValue: outside the grammar, or a parameter stands there twice.
    """
    try:
        text = octets.decode("ascii")
    except UnicodeDecodeError:
        raise NotAnIssueValue("it has characters beyond ASCII") from None
    first, semicolon, rest = text.partition(";")
    issuer = first.strip(" \t")
    if issuer and _ISSUER.match(issuer) is None:
        raise NotAnIssueValue(f"{issuer!r:.80} is not the domain name of an issuer")
    parameters: dict[str, str] = {}
    for part in rest.split(";") if semicolon and rest.strip(" \t") else ():
        match = _PARAMETER.match(part.strip(" \t"))
        if match is None:
            shown = part.strip(" \t")
            raise NotAnIssueValue(
                f"{shown!r:.80} is not tag=value" if shown else "a parameter is empty"
            )
        if match[1].lower() in parameters:
            raise NotAnIssueValue(f"{match[1]} stands there twice")
        parameters[match[1].lower()] = match[2]
    return IssueValue(issuer, parameters)


def canonical_issuer(name: str) -> str:
    """Return an issuer's domain name as it is compared: lower-case A-labels, no dot at the end."""
    plain = name.strip().lower().removesuffix(".")
    if plain.isascii():
        return plain
    try:
        return idna.encode(plain, uts46=True).decode("ascii")
    except idna.IDNAError:
        return plain
