"""Names: what may be put into a certificate, and how a certificate is called in paths.

A name is held as its A-label form (RFC 5890), lower case, without trailing dot. A wildcard is
``*.`` before a name (RFC 6125 section 6.4.3, RFC 9525): it covers one label.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

from shared.contract.errors import NameRefused, PolicyError

MAX_NAMES = 100
MAX_CERTIFICATE_ID = 200

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
_CERTIFICATE_ID = re.compile(r"[a-z0-9_][a-z0-9._-]{0,199}\Z")

# Special-use names (RFC 6761, 6762, 7686, 8375, 9476; ICANN's .internal) and the three that ICANN
# put off for good: no public CA may sign them.
NEVER_PUBLIC = frozenset(
    ("alt", "arpa", "corp", "example", "home", "internal", "invalid", "lan", "local")
) | {"localhost", "mail", "onion", "test"}


class DnsName(str):
    """One DNS name in A-label form; make it with :meth:`parse`, never by hand.

    ``DnsName`` is a ``str`` so that it sorts, hashes and serialises as one.
    """

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> DnsName:
        """Return the name in ``text``, given as U-labels or A-labels.

        Raises:
            NameRefused: not a name that a public CA could sign, and why.
        """
        lowered = text.strip().rstrip(".").lower()
        wildcard = lowered.startswith("*.")
        base = lowered[2:] if wildcard else lowered
        if not base or len(lowered) > 255:
            raise NameRefused(f"{text!r:.80} is not a DNS name: it is empty or too long.")
        _refuse_address(base, text)
        ascii_base = _to_a_labels(base, text)
        name = cls(f"*.{ascii_base}" if wildcard else ascii_base)
        _refuse_not_public(name, text)
        return name

    @property
    def is_wildcard(self) -> bool:
        return self.startswith("*.")

    @property
    def base(self) -> str:
        """The name without ``*.``, where challenges are looked up (RFC 8555 section 7.1.3)."""
        return self[2:] if self.is_wildcard else str(self)

    def covers(self, wanted: str) -> bool:
        """Tell whether a certificate for this name serves ``wanted``; ``*`` covers one label."""
        if self == wanted:
            return True
        if not self.is_wildcard or wanted.startswith("*."):
            return False
        label, dot, rest = wanted.partition(".")
        return bool(label and dot) and rest == self.base

    @property
    def probe_name(self) -> str:
        """A name to ask a server for: a stand-in label for a wildcard, else the name itself."""
        return f"wildcard-probe.{self.base}" if self.is_wildcard else str(self)

    @property
    def certificate_id(self) -> str:
        """The form that is safe in a path and a file name: ``[a-z0-9._-]`` only."""
        return f"_wildcard.{self.base}" if self.is_wildcard else str(self)


def _refuse_address(base: str, text: str) -> None:
    try:
        ipaddress.ip_address(base.strip("[]"))
    except ValueError:
        return
    raise NameRefused(f"{text!r:.80} is an IP address, not a DNS name.")


def _to_a_labels(base: str, text: str) -> str:
    if base.isascii():
        labels = base.split(".")
        if not all(_LABEL.match(label) for label in labels):
            raise NameRefused(
                f"{text!r:.80} is not a DNS name: a label is 1 to 63 letters, digits and hyphens."
            )
        if not any(label.startswith("xn--") for label in labels):
            return base
    import idna

    try:
        encoded = idna.encode(base, uts46=True, transitional=False).decode("ascii")
        for label in encoded.split("."):
            idna.ulabel(label)
    except (idna.IDNAError, UnicodeError) as error:
        raise NameRefused(
            f"{text!r:.80} is not a valid internationalised name: {error}."
        ) from error
    return encoded


def _refuse_not_public(name: DnsName, text: str) -> None:
    labels = name.base.split(".")
    if len(name) > 253:
        raise NameRefused(f"{text!r:.80} is longer than 253 octets.")
    if not all(_LABEL.match(label) for label in labels):
        raise NameRefused(f"{text!r:.80} is not a DNS name.")
    if len(labels) < 2:
        raise NameRefused(f"{text!r:.80} has no domain: a public CA signs full names only.")
    if labels[-1] in NEVER_PUBLIC or labels[-1].isdigit():
        raise NameRefused(
            f"{text!r:.80} ends in .{labels[-1]}, which no public CA may sign.",
            do="Use a name under a domain that your organisation registered.",
        )


def parse_names(texts: Iterable[str]) -> tuple[DnsName, ...]:
    """Return the sorted set of names for one certificate, 1 to 100 of them.

    Raises:
        NameRefused: one is not acceptable.
        PolicyError: none, or more than :data:`MAX_NAMES`.
    """
    names = tuple(sorted({DnsName.parse(text) for text in texts}))
    if not 1 <= len(names) <= MAX_NAMES:
        raise PolicyError(
            f"A certificate has 1 to {MAX_NAMES} names, not {len(names)}.",
            do="Split the names over several certificates.",
        )
    return names


def is_a_label_name(text: str) -> bool:
    """Tell whether a name that came over the wire is one: grammar only, no lists.

    Two releases with other lists of top-level domains, or of what IDNA allows, must not disagree
    about a message; what a CA would sign was decided when the name was asked for.
    """
    labels = text.removeprefix("*.").split(".")
    fits = len(text) <= 253 and len(labels) > 1 and all(map(_LABEL.match, labels))
    return fits and not labels[-1].isdigit()


def check_certificate_id(text: str) -> str:
    """Return ``text`` if it may stand in a path (``[a-z0-9._-]``, at most 200).

    Raises:
        PolicyError: otherwise.
    """
    if _CERTIFICATE_ID.match(text) and ".." not in text:
        return text
    raise PolicyError(
        f"{text!r:.80} is not a certificate id: use a-z, 0-9, '.', '_' and '-', "
        f"at most {MAX_CERTIFICATE_ID} characters."
    )
