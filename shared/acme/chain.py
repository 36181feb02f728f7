"""What a CA sent is the certificate that was asked for, or it is refused before it is stored."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from cryptography import x509

from shared.contract.errors import BundleError, IssuanceRejected
from shared.contract.x509 import chain_to_pem, check_names, common_name, load_chain, spki_sha256


def check_issued_chain(pem: bytes, csr_pem: bytes, names: Sequence[str]) -> bytes:
    """Return the chain as plain PEM, leaf first.

    Raises:
        IssuanceRejected: no PEM chain of at most ten certificates, another key than the CSR's,
            other names than the order's, or a chain whose links do not follow one another.
    """
    try:
        chain = load_chain(pem.decode("ascii", errors="replace"))
        check_names(chain[0], names)
    except BundleError as error:
        raise IssuanceRejected(f"What the CA issued was refused. {error.what}") from error
    if spki_sha256(chain[0]) != spki_sha256(x509.load_pem_x509_csr(csr_pem)):
        raise IssuanceRejected("The CA issued a certificate for another key than the CSR's.")
    _check_links(chain)
    return chain_to_pem(chain).encode("ascii")


def _check_links(chain: Sequence[x509.Certificate]) -> None:
    for position, (lower, upper) in enumerate(pairwise(chain), start=1):
        try:
            lower.verify_directly_issued_by(upper)
        except Exception as error:
            raise IssuanceRejected(
                f"The CA sent a chain whose certificate {position} was not signed by the next."
            ) from error


def has_issuer(pem: bytes, issuer: str) -> bool:
    """Tell whether the chain's last certificate was issued by one of this common name."""
    try:
        return common_name(load_chain(pem.decode("ascii", errors="replace"))[-1].issuer) == issuer
    except BundleError:
        return False
