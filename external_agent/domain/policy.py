"""What an operator may ask for, decided before anything is written."""

from __future__ import annotations

from collections.abc import Sequence

from shared.errors import PolicyError
from shared.identifiers import DnsName, check_certificate_id, parse_names

CHALLENGES = ("http-01", "dns-01", "dns-persist-01")


def wanted_names(texts: Sequence[str], challenge: str) -> tuple[DnsName, ...]:
    """Return the names of a certificate.

    Raises:
        NameRefused, PolicyError: a name no public CA may sign, or a wildcard with http-01
            (RFC 8555 section 8.3 and CA/Browser Forum BR 3.2.2.4.19).
    """
    names = parse_names(texts)
    if challenge not in CHALLENGES:
        raise PolicyError(
            f"{challenge!r:.40} is no challenge type.", do=f"Use one of {', '.join(CHALLENGES)}."
        )
    wildcards = [name for name in names if name.is_wildcard]
    if wildcards and challenge == "http-01":
        raise PolicyError(
            f"{wildcards[0]} cannot be validated by http-01.",
            do="List the names one by one: a wildcard needs a DNS challenge.",
        )
    return names


def certificate_id(names: Sequence[DnsName], texts: Sequence[str], wanted: str | None) -> str:
    """Return the id of a certificate: ``wanted``, or the path form of the first name given."""
    if wanted is not None:
        return check_certificate_id(wanted)
    first = DnsName.parse(texts[0]) if texts else names[0]
    return check_certificate_id(first.certificate_id)
