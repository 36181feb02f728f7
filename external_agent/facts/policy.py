"""What an operator may ask for, decided before anything is written."""

from __future__ import annotations

from collections.abc import Sequence

from shared.contract.errors import PolicyError
from shared.contract.identifiers import DnsName, check_certificate_id, parse_names

RELAY_CERTIFICATE = "_relay"
"""The id of the certificate that the relay serves with, which no puller gets."""
CHALLENGES = ("http-01", "dns-01", "dns-persist-01")


def wanted_names(texts: Sequence[str], challenge: str) -> tuple[DnsName, ...]:
    """Return the names of a certificate.

    Raises:
        NameRefused, PolicyError: a name no public CA may sign, or a wildcard with http-01
            (RFC 8555 section 8.3 and CA/Browser Forum BR 3.2.2.4.19).
    """
    names = parse_names(texts)
    wanted_challenge(challenge)
    wildcards = [name for name in names if name.is_wildcard]
    if wildcards and challenge == "http-01":
        raise PolicyError(
            f"{wildcards[0]} cannot be validated by http-01.",
            do="Use --challenge dns-01 or dns-persist-01, or list the names one by one.",
        )
    return names


def wanted_challenge(text: str) -> str:
    """
    Raises:
        PolicyError: there is no such challenge, or it is not one of ours.
    """
    if text in CHALLENGES:
        return text
    raise PolicyError(
        f"{text!r:.40} is no challenge type.", do=f"Use one of {', '.join(CHALLENGES)}."
    )


def changed_names(
    before: Sequence[str], added: Sequence[str], removed: Sequence[str], challenge: str
) -> tuple[str, ...]:
    """Return the names that a certificate is to have, sorted.

    Raises:
        NameRefused, PolicyError: as :func:`wanted_names`; a name to remove is none of it, or the
            last one.
    """
    without = set(parse_names(removed)) if removed else set()
    strange = sorted(without - set(before))
    if strange:
        raise PolicyError(
            f"{strange[0]} is no name of this certificate.", do=f"It has {', '.join(before)}."
        )
    names = [name for name in dict.fromkeys((*before, *added)) if name not in without]
    if not names:
        raise PolicyError(
            "A certificate needs a name.", do="To give it up: external-agent remove NAME."
        )
    return tuple(sorted(wanted_names(names, challenge)))


def require_ordinary(certificate: str) -> None:
    """
    Raises:
        PolicyError: it is the relay's own, which the settings rule.
    """
    if certificate == RELAY_CERTIFICATE:
        raise PolicyError(
            f"{RELAY_CERTIFICATE} is the certificate of this agent's own relay.",
            do="It is ruled by [relay] in the settings: tls, url, challenge.",
        )


def certificate_id(names: Sequence[DnsName], texts: Sequence[str], wanted: str | None) -> str:
    """Return the id of a certificate: ``wanted``, or the path form of the first name given."""
    if wanted is not None:
        require_ordinary(wanted)
        return check_certificate_id(wanted)
    first = DnsName.parse(texts[0]) if texts else names[0]
    return check_certificate_id(first.certificate_id)
