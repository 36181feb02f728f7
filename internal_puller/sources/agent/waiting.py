"""What the next generation of a certificate waits for on this machine, in words."""

from __future__ import annotations

from internal_puller.state.pending import PendingKeys
from internal_puller.state.progress import CertificateProgress, LastError
from shared.contract.errors import KeyOriginRefused, NameMismatch


def waits_for(
    certificate: str, known: CertificateProgress, pending: PendingKeys, *, installed: int
) -> str:
    """Return it, or an empty text.

    Args:
        installed: generation in place; 0 is none.
    """
    if refused := _waits_for_a_command(certificate, known.error):
        return refused
    if known.key_origin != "puller":
        return ""
    if known.csr_error:
        return f"the agent to take a CSR: {known.csr_error}"
    if known.csr_wanted or pending.unused is None:
        return "the next pull, which makes a key and leaves a CSR with the agent"
    if not installed or known.offered < installed:
        return "the agent to get a certificate for the CSR that was left with it"
    return ""


def _waits_for_a_command(certificate: str, error: LastError | None) -> str:
    if error is not None and error.type == KeyOriginRefused.type:
        return (
            f"a command here: internal-puller target change {certificate} --key-origin any; until "
            "then only keys made on this machine are installed, and the certificate in place "
            "goes on serving"
        )
    if error is not None and error.type == NameMismatch.type:
        return (
            f"a name that is wanted here and not in what came: {error.what} If it has moved "
            f"away: internal-puller target change {certificate} --remove-name NAME; the "
            "certificate in place goes on serving"
        )
    return ""
