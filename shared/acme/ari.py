"""When the CA suggests to renew (RFC 9773). Whatever fails here must never block a renewal."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Collection
from dataclasses import dataclass

from cryptography import x509

from shared.acme.answers import read_time
from shared.acme.network import Answer
from shared.acme.ports import RenewalWindow
from shared.acme.problems import plain_text
from shared.contract.errors import IssuanceRejected, IssuanceUnavailable

SHORTEST_WAIT = 60.0
LONGEST_WAIT = 86_400.0
DEFAULT_WAIT = 21_600.0


def ari_certificate_id(leaf_pem: bytes) -> str:
    """Return key identifier, dot, serial in base64url (RFC 9773 section 4.1).

    Raises:
        IssuanceRejected: the leaf has no authority key identifier.
    """
    leaf = x509.load_pem_x509_certificate(leaf_pem)
    try:
        authority = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    except x509.ExtensionNotFound:
        authority = x509.AuthorityKeyIdentifier(None, None, None)
    if authority.key_identifier is None:
        raise IssuanceRejected("The certificate has no authority key identifier, so no ARI.")
    serial = leaf.serial_number
    serial_der = serial.to_bytes(serial.bit_length() // 8 + 1, "big")
    return f"{_base64url(authority.key_identifier)}.{_base64url(serial_der)}"


def read_renewal_window(answer: Answer) -> RenewalWindow:
    """Read a renewalInfo answer; its Retry-After is clamped to one minute up to one day.

    Raises:
        IssuanceUnavailable: no window, or one that ends before it starts.
    """
    document = answer.document()
    window = document.get("suggestedWindow")
    window = window if isinstance(window, dict) else {}
    start, end = read_time(window.get("start")), read_time(window.get("end"))
    if start is None or end is None or end <= start:
        raise IssuanceUnavailable("The CA's renewal information has no sensible window.")
    wait = DEFAULT_WAIT if answer.retry_after is None else answer.retry_after
    return RenewalWindow(
        start=start,
        end=end,
        retry_after=min(max(wait, SHORTEST_WAIT), LONGEST_WAIT),
        explanation_url=_web_address(document.get("explanationURL")),
    )


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate that may be replaced; ``account_url`` is None where it was not recorded."""

    leaf_pem: bytes
    directory_url: str
    account_url: str | None
    names: Collection[str]


def replaces_for(
    old: Issued, *, directory_url: str, account_url: str | None, names: Collection[str]
) -> str | None:
    """Return the `replaces` of an order, or None where the CA would have to refuse it.

    The order must come from the account that the old certificate was issued to, at the same CA,
    and share a name with it (RFC 9773 section 5).
    """
    same_account = old.account_url is None or old.account_url == account_url
    if old.directory_url != directory_url or not same_account or not set(old.names) & set(names):
        return None
    try:
        return ari_certificate_id(old.leaf_pem)
    except (IssuanceRejected, ValueError):
        return None


def _web_address(value: object) -> str | None:
    text = plain_text(value)
    return text if text.startswith("https://") and " " not in text else None


def _base64url(octets: bytes) -> str:
    return urlsafe_b64encode(octets).rstrip(b"=").decode("ascii")
