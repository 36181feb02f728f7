"""Which certificates may stand in a chain, in which order, and whether it ends in a trusted root.

docs/FORMAT.md, check 8, says each rule; paths are verified by the library (decision 0006).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID, SignatureAlgorithmOID

from shared.contract.errors import UntrustedChain
from shared.contract.identifiers import DnsName
from shared.contract.key_policy import SIGNATURES, check_public_key
from shared.contract.x509 import MAX_CHAIN, common_name

Chain = Sequence[x509.Certificate]

_SIGNATURES = SIGNATURES | {SignatureAlgorithmOID.RSASSA_PSS}
_LOOK_AT_THE_AGENT = "The agent puts chains in order: run the same release on both sides."
_LOOK_AT_THE_CA = "The CA must issue it in another form; docs/FORMAT.md, check 8, has the rules."


def check_chain(chain: Chain, roots: Chain, now: float) -> None:
    """Check the whole chain, then that a beginning of it leads to one of ``roots``.

    What stands above the certificate that a trusted root issued is for clients that trust other
    roots (a cross-signed root); it is held to the same rules.

    Args:
        chain: leaf first; at most :data:`MAX_CHAIN`.
        roots: trust anchors.
        now: unix seconds.

    Raises:
        UnsuitableKey: the leaf's key is of a kind that no certificate may have.
        UntrustedChain: any other rule.
    """
    leaf = chain[0]
    check_public_key(leaf, "The certificate's key")
    _check_server_auth(leaf)
    _check_line(chain)
    if not roots:
        raise UntrustedChain("There is no root certificate to verify the chain with.")
    moment = datetime.fromtimestamp(max(now, leaf.not_valid_before_utc.timestamp()), UTC)
    if len(chain) > 1:
        _check_path(chain, chain[-1:], moment, "The chain breaks a rule of X.509", _LOOK_AT_THE_CA)
    end = common_name(chain[-1].issuer)
    _check_path(chain, roots, moment, f'The chain ends at "{end:.120}", which is not trusted here')


def issued_by(lower: x509.Certificate, upper: x509.Certificate) -> bool:
    """Tell whether ``upper`` is named as the issuer of ``lower`` and its key signed it."""
    try:
        lower.verify_directly_issued_by(upper)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False
    return True


def _check_server_auth(leaf: x509.Certificate) -> None:
    try:
        usages = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound as error:
        raise UntrustedChain("The certificate does not say that it is for TLS servers.") from error
    if ExtendedKeyUsageOID.SERVER_AUTH not in usages:
        raise UntrustedChain("The certificate is not for TLS servers (serverAuth).")


def _check_line(chain: Chain) -> None:
    """Leaf first, each next one certifies the one before, nothing else, and no root."""
    for number, one in enumerate(chain, start=1):
        if one.signature_algorithm_oid not in _SIGNATURES:
            raise UntrustedChain(
                f"Certificate {number} of the chain is signed with another algorithm than ECDSA "
                "or RSA on SHA-256, SHA-384 or SHA-512.",
                do=_LOOK_AT_THE_CA,
            )
    for number, (lower, upper) in enumerate(pairwise(chain), start=1):
        if not issued_by(lower, upper):
            raise UntrustedChain(
                f"Certificate {number + 1} of the chain did not sign certificate {number}.",
                do=_LOOK_AT_THE_AGENT,
            )
    for number, one in enumerate(chain, start=1):
        if issued_by(one, one):
            raise UntrustedChain(
                f"Certificate {number} of the chain is a root: it signed itself.",
                do=_LOOK_AT_THE_AGENT,
            )


def _check_path(
    chain: Chain, roots: Chain, moment: datetime, what: str, do: str | None = None
) -> None:
    verifier = (
        verification.PolicyBuilder()
        .store(verification.Store(list(roots)))
        .time(moment)
        .max_chain_depth(MAX_CHAIN)
        .extension_policies(ca_policy=_ca_policy(), ee_policy=_leaf_policy())
        .build_server_verifier(_subject(chain[0]))
    )
    try:
        verifier.verify(chain[0], list(chain[1:]))
    except (verification.VerificationError, InvalidSignature, ValueError) as error:
        reason = _reason(error)
        if _NOT_NOW in reason:
            what, do = (
                "A certificate of the chain, or its root, has expired or is not valid yet",
                None,
            )
        raise UntrustedChain(f"{what} ({reason}).", do=do) from error


_NOT_NOW = "not valid at validation time"
"""The library's words, pinned by a test."""


def _reason(error: Exception) -> str:
    """Return the library's own words without what it says of every path that it gives up."""
    text = str(error).partition(" (encountered processing")[0]
    return text.removeprefix("validation failed: ").removeprefix("candidates exhausted: ")


def _subject(leaf: x509.Certificate) -> x509.DNSName:
    """Return a name for the library to look for; check 9 compares all of them by our own rule."""
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        first = names.get_values_for_type(x509.DNSName)[0]
        return x509.DNSName(DnsName(first.lower()).probe_name)
    except (x509.ExtensionNotFound, IndexError, ValueError) as error:
        raise UntrustedChain("The certificate has no DNS name in subjectAltName.") from error


def _leaf_policy() -> verification.ExtensionPolicy:
    """Web PKI, except where private CAs differ: a leaf without AKI, SAN or EKU critical or not."""
    any_criticality = verification.Criticality.AGNOSTIC
    return (
        verification.ExtensionPolicy.webpki_defaults_ee()
        .may_be_present(x509.AuthorityKeyIdentifier, verification.Criticality.NON_CRITICAL, None)
        .require_present(x509.SubjectAlternativeName, any_criticality, None)
        .require_present(x509.ExtendedKeyUsage, any_criticality, None)
    )


def _ca_policy() -> verification.ExtensionPolicy:
    return verification.ExtensionPolicy.webpki_defaults_ca().may_be_present(
        x509.AuthorityKeyIdentifier, verification.Criticality.NON_CRITICAL, None
    )
