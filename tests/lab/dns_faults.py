"""Faults of a DNS server on demand, limited to a name, a view or a type."""

from __future__ import annotations

from typing import Any

import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

from .faults import Fault, FaultBox


class DnsFaults(FaultBox):
    """What a DNS server can do wrong. Every fault may be limited to a name, a view or a type."""

    def _about(
        self,
        kind: str,
        name: str | None,
        view: str | None,
        type_: str | None,
        times: int | None,
        **more: Any,
    ) -> Fault:
        owner = None if name is None else dns.name.from_text(name)
        rdtype = None if type_ is None else dns.rdatatype.from_text(type_)

        def concerned(question: dns.rrset.RRset) -> bool:
            return owner in (None, question.name) and rdtype in (None, question.rdtype)

        return self.add(kind, resource=view, times=times, when=concerned, **more)

    def rcode(
        self,
        rcode: str = "SERVFAIL",
        *,
        name: str | None = None,
        view: str | None = None,
        type: str | None = None,  # noqa: A002
        times: int | None = 1,
    ) -> Fault:
        """Answer with an error and nothing else."""
        value = dns.rcode.from_text(rcode)
        return self._about("rcode", name, view, type, times, rcode=value)

    def drop(
        self,
        *,
        name: str | None = None,
        view: str | None = None,
        type: str | None = None,  # noqa: A002
        times: int | None = 1,
    ) -> Fault:
        """Do not answer."""
        return self._about("drop", name, view, type, times)

    def slow(
        self,
        seconds: float,
        *,
        name: str | None = None,
        view: str | None = None,
        type: str | None = None,  # noqa: A002
        times: int | None = 1,
    ) -> Fault:
        """Answer `seconds` later."""
        return self._about("slow", name, view, type, times, seconds=seconds)

    def truncate(
        self,
        *,
        name: str | None = None,
        view: str | None = None,
        type: str | None = None,  # noqa: A002
        times: int | None = 1,
    ) -> Fault:
        """Answer over UDP with TC set, so that the client asks again over TCP."""
        return self._about("truncate", name, view, type, times)
