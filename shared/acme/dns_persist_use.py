"""dns-persist-01 in use: what is offered, what to write, what stands; the commands' own bodies.

Nothing here writes to the DNS: the record makes the account key an issuing credential, and so it
is the zone's owner who sets it, once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from shared.acme.dns_persist import (
    ANY_DOMAIN,
    CHALLENGE_TYPE,
    Draft,
    Finding,
    Offer,
    Verdict,
    judge_records,
    offer_of,
    record_name,
    record_text,
    zone_line,
)
from shared.acme.ports import AuthorizationState, Clock, DirectoryInfo, OrderState, PendingChallenge
from shared.contract.errors import (
    ConfigurationError,
    DnsFailure,
    IssuanceRejected,
    IssuanceUnavailable,
)

if TYPE_CHECKING:
    from shared.acme.authoritative import Texts
    from shared.acme.dns01 import Dns01Settings

DAY = 86_400
SOON = 30 * DAY
"""From so many seconds before its persistUntil a record is warned of."""

_log = logging.getLogger(__name__)


class PersistClient(Protocol):
    """What is asked of the CA; `AcmeClient` is one."""

    @property
    def account_url(self) -> str | None: ...

    @property
    def thumbprint(self) -> str: ...

    def directory(self) -> DirectoryInfo: ...

    def confirm_account(self) -> str: ...

    def new_order(self, names: Sequence[str]) -> OrderState: ...

    def fetch_authorization(self, url: str) -> AuthorizationState: ...


class TxtLookup(Protocol):
    """What is asked of the DNS; `AuthoritativeDns` is one."""

    def texts(self, name: str) -> Texts: ...


def persist_lookup(settings: Dns01Settings) -> TxtLookup:
    """Return look-ups by the resolvers and name servers of the section ``[dns01]``."""
    from shared.acme.authoritative import AuthoritativeDns

    return AuthoritativeDns(
        settings.resolver_addresses, name_servers=settings.name_server_addresses
    )


# --- what the CA offers ----------------------------------------------------------------------


def ask_offer(client: PersistClient, names: Sequence[str]) -> Offer:
    """Return what the CA takes for this account, after it confirmed that the account stands.

    Only an authorization shows what a CA offers, so an order is made for the names and left; a
    CA that reuses pending orders gives the same one when it is needed.

    Args:
        names: A-labels; wildcards as ``*.``.

    Raises:
        IssuanceRejected: the account does not stand, or the challenge is not offered: says what is.
        ConfigurationError: there is no account yet.
        IssuanceError: as every call.
    """
    account_url = client.confirm_account()
    directory = client.directory()
    order = client.new_order(names)
    challenges = [
        challenge
        for url in order.authorizations
        for challenge in _offered(client.fetch_authorization(url), directory)
    ]
    offer = offer_of(directory, account_url, client.thumbprint, challenges)
    if not offer.issuers:
        raise IssuanceRejected(
            f"The CA {_host(directory)} offers {CHALLENGE_TYPE} but names no issuer for the record."
        )
    _refuse_foreign_account(offer)
    return offer


def _offered(
    authorization: AuthorizationState, directory: DirectoryInfo
) -> list[Mapping[str, object]]:
    found = [one.raw for one in authorization.challenges if one.type == CHALLENGE_TYPE]
    if not found and authorization.status != "valid":
        offers = ", ".join(sorted({one.type for one in authorization.challenges})) or "nothing"
        raise IssuanceRejected(
            f"The CA {_host(directory)} does not offer {CHALLENGE_TYPE} for {authorization.name}; "
            f"it offers {offers}.",
            do="Choose one of these challenges, or a CA that offers dns-persist-01.",
        )
    return found


def _refuse_foreign_account(offer: Offer) -> None:
    """A record over another account looks perfect and never validates."""
    if offer.hash_prefix is None and offer.account_uris not in ((), (offer.account_url,)):
        raise IssuanceRejected(
            f"The CA says that the account is {', '.join(offer.account_uris):.300}, not "
            f"{offer.account_url}: no record can be right.",
        )


def _host(directory: DirectoryInfo) -> str:
    return urlsplit(directory.url).hostname or directory.url


# --- what to write ---------------------------------------------------------------------------


@dataclass(frozen=True)
class RecordAdvice:
    """One record to be set by whoever keeps the zone.

    Attributes:
        names: the names that it covers.
        owner: where it stands, without a dot at the end.
        line: for a zone file.
    """

    names: tuple[str, ...]
    draft: Draft
    owner: str
    text: str
    line: str
    until: int | None

    def as_json(self) -> dict[str, object]:
        return {
            "names": list(self.names),
            "draft": f"draft-ietf-acme-dns-persist{self.draft}",
            "owner": self.owner,
            "type": "TXT",
            "text": self.text,
            "zone_line": self.line,
            "persist_until": self.until,
        }


def advise(
    offer: Offer,
    names: Sequence[str],
    *,
    now: float,
    wildcard: bool = False,
    until: int | None = None,
    any_domain: bool = False,
) -> list[RecordAdvice]:
    """Return the records for these names, in every draft that is in play.

    Args:
        names: A-labels; a wildcard makes the record of its base a ``policy=wildcard`` one.
        wildcard: all of them are to cover their wildcards.
        until: unix seconds.
        any_domain: draft -02 only: one text that is good for every domain.

    Raises:
        ConfigurationError: `until` is over already, or `any_domain` where the CA cannot do it.
    """
    if until is not None and until <= now:
        raise ConfigurationError("The end of the record, persistUntil, is in the past.")
    if any_domain and Draft.WITH_HASH not in offer.drafts:
        raise ConfigurationError(
            "One text for every domain is of draft -02, and this CA speaks draft -01 only: its "
            "records hold the account URL, which is the same for every domain anyway."
        )
    drafts = [Draft.WITH_HASH] if any_domain else offer.drafts
    return [
        _advice(offer, draft, base, wildcard=wildcard or wanted, until=until, any_domain=any_domain)
        for base, wanted in bases(names).items()
        for draft in drafts
    ]


def _advice(
    offer: Offer,
    draft: Draft,
    base: str,
    *,
    wildcard: bool,
    until: int | None = None,
    any_domain: bool = False,
) -> RecordAdvice:
    uri = offer.account_uri(draft, ANY_DOMAIN if any_domain else base)
    text = record_text(offer.issuers[0], uri, wildcard=wildcard, until=until)
    names = (base, f"*.{base}") if wildcard else (base,)
    return RecordAdvice(names, draft, record_name(base), text, zone_line(base, text), until)


def bases(names: Iterable[str]) -> dict[str, bool]:
    """Return the names without ``*.``, and whether the wildcard of each is wanted."""
    found: dict[str, bool] = {}
    for name in names:
        base = name.removeprefix("*.")
        found[base] = found.get(base, False) or name.startswith("*.")
    return found


# --- what stands -----------------------------------------------------------------------------


@dataclass(frozen=True)
class NameReport:
    """What stands for one name.

    Attributes:
        where: the owner of the records, CNAMEs followed.
        servers: for each authoritative server what was found there, or why nothing was.
        until: the earliest persistUntil that counts, if there is one.
    """

    name: str
    where: str
    verdict: Verdict
    words: str
    until: int | None = None
    servers: tuple[tuple[str, str], ...] = ()

    @property
    def good(self) -> bool:
        return self.verdict is Verdict.GOOD

    def ends_soon(self, now: float) -> bool:
        return self.good and self.until is not None and self.until - now < SOON

    def as_json(self) -> dict[str, object]:
        return {
            "name": self.name,
            "owner": self.where,
            "verdict": str(self.verdict),
            "words": self.words,
            "persist_until": self.until,
            "servers": [{"server": server, "found": found} for server, found in self.servers],
        }


def check(
    offer: Offer, names: Sequence[str], lookup: TxtLookup, now: float, *, wildcard: bool = False
) -> list[NameReport]:
    """Look at every authoritative server of each name; a failed look-up is a verdict too.

    Args:
        names: A-labels; for ``*.`` the record must have ``policy=wildcard``.
        wildcard: it must for all of them.
    """
    return [
        check_name(offer, base, lookup, now, wildcard=wildcard or wanted)
        for base, wanted in bases(names).items()
    ]


def check_name(
    offer: Offer, base: str, lookup: TxtLookup, now: float, *, wildcard: bool
) -> NameReport:
    """Return what stands for one name; the worst of its servers counts, for a CA may ask any."""
    try:
        texts = lookup.texts(record_name(base))
    except IssuanceUnavailable as error:
        return NameReport(base, record_name(base), Verdict.UNKNOWN, error.what)
    except IssuanceRejected as error:
        return NameReport(base, record_name(base), Verdict.MALFORMED, error.what)
    found: list[tuple[str, Finding]] = []
    shown = []
    for one in texts.servers:
        server = str(one.server)
        if one.error:
            shown.append((server, one.error))
            continue
        finding = judge_records(one.records, offer, base, wildcard=wildcard, now=now)
        found.append((server, finding))
        shown.append((server, finding.words))
    return _summed_up(base, texts.owner, found, tuple(shown))


def _summed_up(
    base: str,
    owner: str,
    found: Sequence[tuple[str, Finding]],
    shown: tuple[tuple[str, str], ...],
) -> NameReport:
    if not found:
        words = f"{owner}: no authoritative server answered: " + "; ".join(
            f"{server}: {error}" for server, error in shown
        )
        return NameReport(base, owner, Verdict.UNKNOWN, words, servers=shown)
    bad = [(server, one) for server, one in found if one.verdict is not Verdict.GOOD]
    untils = [one.until for _, one in bad or found if one.until is not None]
    until = min(untils, default=None)
    if not bad:
        return NameReport(base, owner, Verdict.GOOD, found[0][1].words, until, shown)
    server, worst = bad[0]
    where = f"at {server}" if len(bad) < len(found) else "at every authoritative server"
    if len(found) == 1:
        where = f"at {server}"
    return NameReport(base, owner, worst.verdict, f"{owner}: {worst.words} ({where})", until, shown)


# --- the solver ------------------------------------------------------------------------------

Observe = Callable[[Offer, NameReport], None]


def _observe_nothing(_offer: Offer, _report: NameReport) -> None:
    return None


class PersistSolver:
    """A ChallengeSolver that presents nothing: it looks whether the record stands.

    Args:
        client: whose account is meant.
        clock: unix seconds.
        observe: told of every look.
    """

    challenge_type = CHALLENGE_TYPE

    def __init__(
        self,
        client: PersistClient,
        lookup: TxtLookup,
        *,
        clock: Clock,
        observe: Observe = _observe_nothing,
    ) -> None:
        self._client, self._lookup = client, lookup
        self._clock, self._observe = clock, observe

    def present(self, challenge: PendingChallenge) -> None:
        """Return if the record stands, or if nobody can tell from here.

        Raises:
            DnsFailure: it does not; the challenge is not answered, so that no
                authorization is lost, and the same order goes on once the record stands.
            IssuanceRejected: the CA means another account.
        """
        now = self._clock()
        offer = self._offer(challenge)
        _refuse_foreign_account(offer)
        name, wildcard = challenge.identifier, challenge.wildcard
        report = check_name(offer, name, self._lookup, now, wildcard=wildcard)
        self._observe(offer, report)
        if report.verdict is Verdict.UNKNOWN:
            _log.warning("the record of %s could not be looked at: %s", name, report.words)
        elif not report.good:
            raise DnsFailure(
                f"The dns-persist-01 record of {challenge.identifier} does not stand: "
                f"{report.words}.",
                do="Set this record in the public zone: "
                + _advice(offer, offer.drafts[0], name, wildcard=wildcard).line,
            )

    def _offer(self, challenge: PendingChallenge) -> Offer:
        client = self._client
        if client.account_url is None:
            raise ConfigurationError("There is no account at the CA yet.")
        raw = [challenge.raw]
        return offer_of(client.directory(), client.account_url, client.thumbprint, raw)

    def clean_up(self, challenge: PendingChallenge) -> None:
        """Leave the record: it stands for the next time."""
