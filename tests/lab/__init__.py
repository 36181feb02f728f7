"""An Internet in a process: an ACME CA that verifies, and a DNS with two views."""

from .ca import LabCa
from .ports import free_port
from .resolver import DnsResolver, LookupFailed, TableResolver
from .split_dns import SplitDns

__all__ = ["DnsResolver", "LabCa", "LookupFailed", "SplitDns", "TableResolver", "free_port"]
