"""What an operator does with ACME accounts: look, change the contact, change the key, close."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from external_agent.orders.certificate_authority import CertificateAuthorities
from external_agent.records.rows import AccountRow
from external_agent.settings import keys
from external_agent.store.interface import Store
from shared.acme.dns_persist import Draft
from shared.acme.jwk import thumbprint, to_jwk
from shared.acme.keys import AccountKey
from shared.contract.errors import ConfigurationError, RelayError


@dataclass(frozen=True, slots=True)
class AccountState:
    """
    Attributes:
        error: why the CA did not confirm it; ``None`` if it did.
    """

    row: AccountRow
    thumbprint: str
    error: RelayError | None


def confirmed_accounts(store: Store, authorities: CertificateAuthorities) -> Iterator[AccountState]:
    """Ask every CA whether our account stands, by an empty POST-as-GET."""
    for row in store.accounts():
        try:
            with authorities.connect(row.directory_url) as client:
                client.confirm_account()
                yield AccountState(row, client.thumbprint, None)
        except RelayError as error:
            yield AccountState(row, row.thumbprint or "", error)


def update_contacts(
    store: Store,
    authorities: CertificateAuthorities,
    contact_of: Sequence[tuple[AccountRow, tuple[str, ...]]],
    *,
    now: int,
) -> None:
    """Tell each CA whom to write to (RFC 8555 section 7.3.2).

    Raises:
        IssuanceError, ConfigurationError: a CA refuses, or is not reached; those before it know.
    """
    for row, contact in contact_of:
        with authorities.connect(row.directory_url) as client:
            client.update_contact(contact)
            url, print_ = client.account_url or row.account_url, client.thumbprint
        store.save_account(row.directory_url, url, contact, now=now, thumbprint=print_)
        store.append_event(
            "account-updated",
            now=now,
            actor="operator",
            details={"ca": row.directory_url, "contact": list(contact)},
        )


def records_tied_to_the_key(store: Store) -> tuple[str, ...]:
    """Return the names whose dns-persist-01 records hold a hash over the account key (draft -02).

    A roll-over makes them worthless: the CA computes the hash from the key that it knows.
    """
    return tuple(
        sorted({row.name for row in store.persist_records() if Draft.WITH_HASH in row.offer.drafts})
    )


def roll_over(
    store: Store, authorities: CertificateAuthorities, state_directory: Path, *, now: int
) -> list[tuple[AccountRow, RelayError | None]]:
    """Give every account another key (RFC 8555 section 7.3.5); also the rest of one interrupted.

    1 the new key is durable beside the old one · 2 each CA is told, and that it took it recorded
    · 3 when all have, the new key takes the old one's place. Killed anywhere, both keys are there
    and the next run asks each CA which one it knows.

    Returns:
        Each account with the error that kept it from being changed; with any, both keys stay.

    Raises:
        ConfigurationError, LooseFileMode: key files.
    """
    pair = keys.begin_roll_over(state_directory)
    assert pair.following is not None
    done: list[tuple[AccountRow, RelayError | None]] = []
    for row in store.accounts():
        if row.status != "valid":
            continue
        try:
            _roll_over_at(store, authorities, row, pair.following, now)
            done.append((row, None))
        except RelayError as error:
            done.append((row, error))
    if not any(error for _, error in done):
        keys.end_roll_over(state_directory)
    return done


def _roll_over_at(
    store: Store,
    authorities: CertificateAuthorities,
    row: AccountRow,
    key: AccountKey,
    now: int,
) -> None:
    new = thumbprint(to_jwk(key))
    with authorities.connect(row.directory_url) as client:
        if client.thumbprint != new:
            client.roll_over(key)
            store.note_account_key(row.directory_url, new, now=now)


def deactivate(
    store: Store, authorities: CertificateAuthorities, directory_url: str, *, now: int
) -> AccountRow:
    """Close the account at one CA for good (RFC 8555 section 7.3.6).

    Raises:
        ConfigurationError: there is none, or it is closed already.
        IssuanceError: the CA refuses, or is not reached.
    """
    row = store.account(directory_url)
    if row is None or row.status != "valid":
        raise ConfigurationError(
            f"There is no account at {directory_url} that could be deactivated.",
            do="See external-agent account show.",
        )
    with authorities.connect(directory_url) as client:
        client.deactivate()
        store.note_account_deactivated(directory_url, client.thumbprint, now=now)
    return row
