"""An Internet in a process: an ACME CA that verifies, and a DNS with two views."""

from .ca import LabCa, free_port
from .resolver import DnsResolver, LookupFailed, TableResolver

__all__ = ["DnsResolver", "LabCa", "LookupFailed", "TableResolver", "free_port"]
