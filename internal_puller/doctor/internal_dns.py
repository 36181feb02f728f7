"""How this machine sees a name: as its own programs do, through the resolver of the system."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence

from shared.contract.diagnosis import Finding, NameSeen, Verdict


def addresses_of(name: str) -> tuple[str, ...]:
    """Return the addresses that programs on this machine are given; none if there are none.

    Raises:
        OSError: the resolver could not be asked.
    """
    try:
        found = socket.getaddrinfo(name, None, proto=socket.IPPROTO_TCP)
    except socket.gaierror as error:
        if error.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)):
            return ()
        raise
    return tuple(sorted({str(one[4][0]).partition("%")[0] for one in found}))


def is_ours(address: str) -> bool:
    """Tell whether an address belongs to this machine: only then a socket can be bound to it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


def _addresses_of_host(host: str) -> tuple[str, ...]:
    try:
        return addresses_of(host)
    except OSError:
        return ()  # that it is not reached the target says


def name_findings(name: str, others: Sequence[str] = ()) -> Iterator[Finding | NameSeen]:
    """Say what the name is here, and whether that is where it is served.

    Args:
        others: hosts where it is installed by SSH; none is this machine, which "" stands for, too.
    """
    try:
        addresses = addresses_of(name)
    except OSError as error:
        yield Finding(
            "internal-dns",
            Verdict.UNKNOWN,
            name,
            f"The resolver of this machine could not be asked for {name}: {error.strerror}.",
            "Look at /etc/resolv.conf.",
        )
        return
    places = others or ("",)
    there = {address for host in places if host for address in _addresses_of_host(host)}
    good = [one for one in addresses if one in there or ("" in places and is_ours(one))]
    yield NameSeen(name, addresses, bool(good))
    shown, where = ", ".join(addresses), " and ".join(one or "this machine" for one in places)
    if not addresses:
        yield Finding(
            "internal-dns",
            Verdict.PROBLEM,
            name,
            f"{name} has no address inside: nobody on the intranet finds this server by it.",
            f"Add {name} with the address of {where} to the internal DNS.",
        )
    elif not good:
        yield Finding(
            "internal-dns",
            Verdict.WARNING,
            name,
            f"{name} is {shown} inside, which is not {where}.",
            f"Point it to {where}; or, if a load balancer stands before this server, that is where "
            "the certificate belongs, too.",
        )
    elif len(good) < len(addresses):
        other = ", ".join(one for one in addresses if one not in good)
        what = (
            f"{name} is {shown} inside; {other} is another machine and needs the certificate too."
        )
        yield Finding("internal-dns", Verdict.NOTE, name, what, "Make it a puller of its own.")
    else:
        yield Finding("internal-dns", Verdict.OK, name, f"{name} is {shown} inside: {where}.")
