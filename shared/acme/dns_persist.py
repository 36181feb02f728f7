"""dns-persist-01 records: written and judged (draft-ietf-acme-dns-persist -01 and -02).

The directory says which draft a CA speaks: with `accountHashPrefix` in its `meta` it is -02, and
the record names the account by a hash; without, it is -01 and the record holds the account URL.
"""

from __future__ import annotations

import hashlib
import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from shared.acme.issue_value import IssueValue, NotAnIssueValue, canonical_issuer, parse_issue_value
from shared.acme.ports import DirectoryInfo

CHALLENGE_TYPE = "dns-persist-01"
LABEL = "_validation-persist"
ANY_DOMAIN = "*"
_LONGEST_STRING = 255
_MOST_ISSUERS = 10
_UNTIL = re.compile(r"[0-9]{1,15}\Z", re.ASCII)


class Draft(StrEnum):
    """Which text of the draft a record follows."""

    WITH_URL = "-01"
    WITH_HASH = "-02"


@dataclass(frozen=True)
class Offer:
    """What a CA takes as the record of one account.

    Attributes:
        thumbprint: of the account key (RFC 7638), base64url.
        issuers: the names by which the CA may be called, the preferred first; A-labels.
        hash_prefix: `accountHashPrefix` of its directory; None where it speaks draft -01.
        account_uris: what the CA itself said the `accounturi` is.
    """

    account_url: str
    thumbprint: str
    issuers: tuple[str, ...]
    hash_prefix: str | None = None
    account_uris: tuple[str, ...] = ()

    @property
    def drafts(self) -> tuple[Draft, ...]:
        """The drafts in play, the newest first: both while a CA moves from one to the other."""
        if self.hash_prefix is None:
            return (Draft.WITH_URL,)
        both = self.account_url in self.account_uris
        return (Draft.WITH_HASH, Draft.WITH_URL) if both else (Draft.WITH_HASH,)

    def account_uri(self, draft: Draft, domain: str) -> str:
        """Return the `accounturi` of a record for `domain`, which may be :data:`ANY_DOMAIN`."""
        if draft is Draft.WITH_URL:
            return self.account_url
        return account_hash_uri(self.hash_prefix or "", domain, self.thumbprint, self.account_url)

    def accepted(self, domain: str) -> frozenset[str]:
        """Return every `accounturi` that is good for `domain`."""
        found = {self.account_uri(draft, domain) for draft in self.drafts}
        if Draft.WITH_HASH in self.drafts:
            found.add(self.account_uri(Draft.WITH_HASH, ANY_DOMAIN))
        return frozenset(found)


def offer_of(
    directory: DirectoryInfo,
    account_url: str,
    thumbprint: str,
    challenges: Sequence[Mapping[str, object]] = (),
) -> Offer:
    """Return what the directory and the challenges of an authorization say together.

    Args:
        challenges: the CA's own members of dns-persist-01 challenges; without any, the issuers
            are those that the directory names, for CAA if for nothing else.
    """
    listed: list[str] = []
    uris: list[str] = []
    for one in challenges:
        for member in ("issuerDomainNames", "issuer-domain-names"):
            listed += _names(one.get(member))
        uri = one.get("accounturi")
        uris += [uri] if isinstance(uri, str) else []
    listed = listed or _names(directory.meta.get("issuerDomainNames"))
    listed = listed or list(map(canonical_issuer, directory.caa_identities))
    prefix = directory.meta.get("accountHashPrefix")
    return Offer(
        account_url=account_url,
        thumbprint=thumbprint,
        issuers=tuple(dict.fromkeys(listed)),
        hash_prefix=prefix if isinstance(prefix, str) and prefix else None,
        account_uris=tuple(dict.fromkeys(uris)),
    )


def _names(value: object) -> list[str]:
    listed = value[:_MOST_ISSUERS] if isinstance(value, list) else []
    return [canonical_issuer(one) for one in listed if isinstance(one, str) and one]


# --- records as they are written -------------------------------------------------------------


def account_hash_uri(prefix: str, domain: str, thumbprint: str, account_url: str) -> str:
    """Return the `accounturi` of draft -02 section 10.2.

    Args:
        domain: A-labels without a dot at the end, or :data:`ANY_DOMAIN`.
    """
    name = domain.encode("ascii")
    hashed = bytes([len(name)]) + name + thumbprint.encode("ascii") + account_url.encode("ascii")
    digest = hashlib.sha256(hashed).digest()
    return f"{prefix}sha-256/{urlsafe_b64encode(digest).rstrip(b'=').decode('ascii')}"


def record_name(name: str) -> str:
    """Return where the record of a name stands; a wildcard's stands at its base."""
    return f"{LABEL}.{name.removeprefix('*.')}"


def record_text(issuer: str, account_uri: str, *, wildcard: bool, until: int | None) -> str:
    """Return the text of a record.

    Args:
        wildcard: it covers the wildcards of its name too.
        until: unix seconds; None for a record without an end.
    """
    parts = [issuer, f"accounturi={account_uri}"]
    parts += ["policy=wildcard"] if wildcard else []
    parts += [] if until is None else [f"persistUntil={until}"]
    return "; ".join(parts)


def zone_line(name: str, text: str, ttl: int = 3600) -> str:
    """Return the line of a zone file: quoted, for `;` outside quotes begins a comment, and in
    strings of at most 255 octets, for a longer one is an error."""
    strings = [text[at : at + _LONGEST_STRING] for at in range(0, len(text), _LONGEST_STRING)]
    quoted = " ".join('"' + one.replace("\\", "\\\\").replace('"', '\\"') + '"' for one in strings)
    return f"{record_name(name)}. {ttl} IN TXT {quoted}"


# --- records as they are found ---------------------------------------------------------------


class Verdict(StrEnum):
    """What was found of a name's record; the best of several records counts."""

    GOOD = "good"
    EXPIRED = "expired"
    NO_WILDCARD = "no wildcard"
    WRONG_ACCOUNT = "wrong account"
    SPLIT_RECORDS = "split over several records"
    MALFORMED = "malformed"
    WRONG_ISSUER = "wrong issuer"
    MISSING = "missing"
    UNKNOWN = "unknown"


_BEST_FIRST = list(Verdict)


@dataclass(frozen=True)
class Finding:
    """A verdict, why in words, and the `persistUntil` of what was judged, if it has one."""

    verdict: Verdict
    words: str
    until: int | None = None


def judge_records(
    records: Sequence[Sequence[bytes]], offer: Offer, name: str, *, wildcard: bool, now: float
) -> Finding:
    """Return the finding for what one server holds: one good record is enough.

    Args:
        records: each TXT record as its strings.
        name: without `*.`, in A-labels.
        wildcard: the record must cover the wildcards of `name`.
        now: unix seconds.
    """
    if not records:
        return Finding(Verdict.MISSING, "there is no TXT record")
    judge = _Judge(offer, name, wildcard, now)
    found = [judge.of(one) for one in records]
    good = [one for one in found if one.verdict is Verdict.GOOD]
    if good:
        return max(good, key=lambda one: float("inf") if one.until is None else one.until)
    if judge.is_torn_apart(records):
        return Finding(
            Verdict.SPLIT_RECORDS,
            "the text is split over several TXT records; it must be one record of several strings",
        )
    best = min(found, key=lambda one: _BEST_FIRST.index(one.verdict))
    others = f" ({len(found)} TXT records, none is good)" if len(found) > 1 else ""
    return Finding(best.verdict, best.words + others, best.until)


@dataclass(frozen=True)
class _Judge:
    """What records are held against."""

    offer: Offer
    name: str
    wildcard: bool
    now: float

    def of(self, strings: Sequence[bytes]) -> Finding:
        joined = b"".join(strings)
        try:
            value = parse_issue_value(joined)
        except NotAnIssueValue as error:
            return Finding(Verdict.MALFORMED, f"the record is malformed: {error}{_hint(joined)}")
        if canonical_issuer(value.issuer) not in map(canonical_issuer, self.offer.issuers):
            return Finding(
                Verdict.WRONG_ISSUER,
                f"the record is for the issuer {value.issuer or '(none)'}, not for "
                f"{' or '.join(self.offer.issuers) or 'this CA'}",
            )
        found = self._of_parameters(value)
        if found.verdict is Verdict.GOOD and len(strings) > 1:
            note = f", in {len(strings)} strings, of which some CAs read the first only"
            return Finding(found.verdict, found.words + note, found.until)
        return found

    def _of_parameters(self, value: IssueValue) -> Finding:
        uri, text = value.parameters.get("accounturi"), value.parameters.get("persistuntil")
        if uri is None:
            cut = "" if value.parameters else ": it was cut at a ';' outside quotes, as it seems"
            return Finding(Verdict.MALFORMED, f"the record has no accounturi{cut}")
        if text is not None and _UNTIL.match(text) is None:
            return Finding(Verdict.MALFORMED, f"its persistUntil {text!r:.40} is not unix seconds")
        until = None if text is None else int(text)
        if uri not in self.offer.accepted(self.name):
            words = f"its accounturi {uri:.300} is not this account"
            return Finding(Verdict.WRONG_ACCOUNT, words, until)
        if until is not None and self.now > until:
            return Finding(
                Verdict.EXPIRED, f"its persistUntil is over since {moment(until)}", until
            )
        if self.wildcard and value.parameters.get("policy", "").lower() != "wildcard":
            return Finding(Verdict.NO_WILDCARD, "the record has no policy=wildcard", until)
        return Finding(Verdict.GOOD, "the record is good", until)

    def is_torn_apart(self, records: Sequence[Sequence[bytes]]) -> bool:
        """Tell whether two of the records are one, torn; their order means nothing in DNS."""
        texts = [b"".join(one) for one in records[:_MOST_ISSUERS]]
        return any(
            self.of([one + other]).verdict is Verdict.GOOD
            for one in texts
            for other in texts
            if one is not other
        )


def moment(until: int) -> str:
    """Return unix seconds as UTC text, or as they are when no calendar holds them."""
    try:
        return datetime.fromtimestamp(until, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return str(until)


def _hint(text: bytes) -> str:
    if b'"' in text:
        return "; the quotation marks of the zone file are in the record itself"
    if b"\\;" in text:
        return "; a backslash stands before ';' in the record itself"
    return ""
