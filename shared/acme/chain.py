"""What a CA sent is the certificate that was asked for, or it is refused before it is stored.

CAs send what they like around the chain: text, intermediates in another order, a root, a
certificate of somebody else. What is needed is put in order and kept; the rest is dropped, because
a puller takes nothing else (docs/FORMAT.md, check 8).
"""

from __future__ import annotations

from collections.abc import Sequence

from cryptography import x509

from shared.contract.chain_rules import issued_by
from shared.contract.errors import BundleError, IssuanceRejected, MalformedBundle
from shared.contract.key_policy import check_public_key
from shared.contract.x509 import (
    MAX_CHAIN,
    chain_to_pem,
    check_names,
    common_name,
    in_words,
    read_certificates,
    spki_sha256,
)

MOST_SENT = 2 * MAX_CHAIN
"""Certificates, with what is surplus."""
Chain = tuple[x509.Certificate, ...]


def check_issued_chain(pem: bytes, csr_pem: bytes, names: Sequence[str]) -> bytes:
    """Return the chain as plain PEM: the leaf, then each issuer that the CA sent, without a root.

    Raises:
        IssuanceRejected: no certificate, another key than the CSR's or one that no certificate may
            have, other names than the order's, or no issuer of the leaf among what came with it.
    """
    wanted = spki_sha256(x509.load_pem_x509_csr(csr_pem))
    try:
        with in_words(IssuanceRejected, "A certificate that the CA sent"):
            chain = _in_order(_read(pem), wanted)
            check_public_key(chain[0], "The certificate's key")
            check_names(chain[0], names)
    except BundleError as error:
        raise IssuanceRejected(f"What the CA issued was refused. {error.what}") from error
    return chain_to_pem(chain).encode("ascii")


def _read(pem: bytes) -> Chain:
    found = read_certificates(pem.decode("ascii", errors="replace"))
    if len(found) > MOST_SENT:
        raise MalformedBundle(
            f"The CA sent {len(found)} certificates; at most {MOST_SENT} are looked at."
        )
    return found


def _in_order(found: Chain, wanted: str) -> Chain:
    """Return the leaf for the key, and above each certificate the one that signed it.

    What had expired when the leaf began is of no use to anybody, and a puller refuses it.
    """
    leaf = next((one for one in found if spki_sha256(one) == wanted), None)
    if leaf is None:
        raise IssuanceRejected("The CA issued a certificate for another key than the CSR's.")
    begin = leaf.not_valid_before_utc
    alive = [one for one in found if one.not_valid_after_utc > begin]
    chain, others = [leaf], [one for one in dict.fromkeys(alive) if one != leaf]
    while (upper := _issuer(chain[-1], others)) is not None and not issued_by(upper, upper):
        chain.append(upper)
        others.remove(upper)
    if upper is None and others and len(chain) == 1:
        raise IssuanceRejected("The certificate was not signed by any other that the CA sent.")
    if len(chain) > MAX_CHAIN:
        raise IssuanceRejected(f"The chain has {len(chain)} certificates, more than {MAX_CHAIN}.")
    return tuple(chain)


def _issuer(lower: x509.Certificate, others: Sequence[x509.Certificate]) -> x509.Certificate | None:
    return next((one for one in others if issued_by(lower, one)), None)


def has_issuer(pem: bytes, issuer: str) -> bool:
    """Tell whether the chain's last certificate was issued by one of this common name."""
    try:
        found = _read(pem)
        with in_words(IssuanceRejected, "A certificate that the CA sent"):
            return common_name(_in_order(found, spki_sha256(found[0]))[-1].issuer) == issuer
    except (BundleError, IssuanceRejected):
        return False
