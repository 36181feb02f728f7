"""Whether a bundle may be installed: every trust rule in one place, in a fixed order, no I/O."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.extensions import ExtensionNotFound

from internal_puller.state.floor import Floor
from shared.contract.bundle import Manifest, manifest_digest, parse_envelope
from shared.contract.errors import (
    BundleError,
    ConflictingGeneration,
    FutureGeneration,
    KeyMismatch,
    KeyOriginRefused,
    MalformedBundle,
    NameMismatch,
    OutsideValidity,
    StaleGeneration,
    UnknownCertificate,
    UntrustedChain,
    WrongAgent,
    WrongRecipient,
)
from shared.contract.identifiers import DnsName
from shared.contract.sealing import Identity, SealContext
from shared.contract.signing import VerifyKey
from shared.contract.x509 import (
    check_chain,
    check_key,
    check_names,
    check_validity,
    dns_names,
    load_chain,
    load_key,
    spki_sha256,
)

MAX_AHEAD = 3600

Certificate = x509.Certificate
Chain = tuple[Certificate, ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What this machine knows by itself about the certificate it asked for.

    Attributes:
        certificate: its id.
        names: A-labels that the certificate must cover, of all its targets.
        own_key_only: a target installs only keys made on this machine.
        anchors: one set of roots for each target that differs; the chain must end in each.
    """

    certificate: str
    names: tuple[str, ...]
    own_key_only: bool
    anchors: tuple[Sequence[x509.Certificate], ...]


@dataclass(frozen=True, slots=True)
class Accepted:
    """A bundle that passed every check.

    Attributes:
        digest: hex SHA-256 of the signed manifest.
        chain: leaf first.
        key_der: the private key, PKCS#8.
    """

    manifest: Manifest
    digest: str
    chain: Chain
    key_der: bytes = field(repr=False)

    @property
    def floor(self) -> Floor:
        return Floor(self.manifest.generation, self.digest)


def accept(
    envelope: bytes,
    *,
    agent: VerifyKey,
    identity: Identity,
    wanted: Wanted,
    floor: Floor | None,
    pending_keys: Mapping[str, bytes],
    now: float,
) -> Accepted:
    """Return what may be installed.

    Args:
        envelope: the bundle as it came.
        agent: the key pinned at enrolment.
        identity: our sealing key.
        floor: the highest generation that passed before, if any.
        pending_keys: PKCS#8 DER of keys made here, by the hex SHA-256 of their SPKI.
        now: unix seconds.

    Raises:
        BundleError: exactly one member of the family, for the first check that fails.
    """
    # 1. Size and shape of the envelope.
    parsed = parse_envelope(envelope)
    # 2. Signed by the pinned agent; from here on only the verified bytes are looked at.
    payload = parsed.open(agent)
    # 3. Shape of the manifest.
    manifest = Manifest.decode(payload)
    digest = manifest_digest(payload)
    # 4. From our agent, for us.
    _check_parties(manifest, agent, identity)

    def open_key(leaf: x509.Certificate) -> bytes:
        return _open_key(manifest, leaf, identity, pending_keys)

    return _accept_content(manifest, digest, wanted=wanted, floor=floor, open_key=open_key, now=now)


def accept_own(
    manifest: Manifest, key_der: bytes, *, wanted: Wanted, floor: Floor | None, now: float
) -> Accepted:
    """Return what may be installed of a certificate that this machine got from a CA by itself.

    Nobody signed the statement, so there is no agent to check; every other rule is the same.

    Args:
        manifest: what we state about it ourselves, with ``key_origin`` ``puller``.
        key_der: PKCS#8 DER.

    Raises:
        BundleError: for the first check that fails.
    """

    def open_key(leaf: x509.Certificate) -> bytes:
        check_key(load_key(key_der), leaf)
        return key_der

    digest = manifest_digest(manifest.encode())
    return _accept_content(manifest, digest, wanted=wanted, floor=floor, open_key=open_key, now=now)


def _accept_content(
    manifest: Manifest,
    digest: str,
    *,
    wanted: Wanted,
    floor: Floor | None,
    open_key: Callable[[x509.Certificate], bytes],
    now: float,
) -> Accepted:
    # 5. The certificate that was asked for, and a key origin that its targets allow.
    _check_certificate(manifest, wanted)
    # 6. Not backwards, not far ahead.
    _check_generation(manifest, digest, floor, now)
    with _unreadable_is_malformed():
        chain = load_chain(manifest.chain)
        # 7. Dates.
        _check_dates(manifest, chain[0], now)
        # 8. Link by link up to a root.
        _check_anchors(chain, wanted, now)
        # 9. Exactly the stated names, and all that are wanted here.
        _check_names(manifest, chain[0], wanted)
        # 10. The key.
        key_der = open_key(chain[0])
    return Accepted(manifest, digest, chain, key_der)


def describe(envelope: bytes, agent: VerifyKey) -> tuple[str, int | None]:
    """Return (digest, generation) by which a receipt names a bundle that was refused.

    The digest is the manifest's if the agent signed it, else that of the bytes as they came.
    """
    try:
        payload = parse_envelope(envelope).open(agent)
    except BundleError:
        return hashlib.sha256(envelope).hexdigest(), None
    try:
        return manifest_digest(payload), Manifest.decode(payload).generation
    except BundleError:
        return manifest_digest(payload), None


@contextmanager
def _unreadable_is_malformed() -> Iterator[None]:
    """X.509 is parsed lazily: any later look at hostile DER can fail in the parser's own way."""
    try:
        yield
    except (
        ValueError,
        TypeError,
        UnsupportedAlgorithm,
        ExtensionNotFound,
        x509.DuplicateExtension,
        x509.InvalidVersion,
        x509.UnsupportedGeneralNameType,
    ) as error:
        raise MalformedBundle("A certificate of the chain cannot be read.") from error


def _check_parties(manifest: Manifest, agent: VerifyKey, identity: Identity) -> None:
    if manifest.agent != agent.id:
        raise WrongAgent(
            f"The manifest names agent {manifest.agent[:16]}…, not the enrolled {agent.id[:16]}…"
        )
    if manifest.recipient != identity.id:
        raise WrongRecipient(
            f"The bundle is meant for the sealing key {manifest.recipient[:16]}…, not for this "
            f"machine's {identity.id[:16]}…"
        )


def _check_certificate(manifest: Manifest, wanted: Wanted) -> None:
    if manifest.certificate != wanted.certificate:
        raise UnknownCertificate(
            f"The bundle is for certificate {manifest.certificate}, asked was for "
            f"{wanted.certificate}."
        )
    if wanted.own_key_only and manifest.key_origin != "puller":
        raise KeyOriginRefused(
            f"The key of {manifest.certificate} was made by the agent, but a target here takes "
            "only keys made on this machine.",
            do=f"To take the agent's keys again: internal-puller target change "
            f"{manifest.certificate} --key-origin any.",
        )


def _check_generation(manifest: Manifest, digest: str, floor: Floor | None, now: float) -> None:
    if floor is not None and manifest.generation < floor.generation:
        raise StaleGeneration(
            f"Generation {manifest.generation} of {manifest.certificate} is older than "
            f"{floor.generation}, which was accepted here before."
        )
    if manifest.generation > now + MAX_AHEAD:
        raise FutureGeneration(
            f"Generation {manifest.generation} of {manifest.certificate} is more than an hour "
            f"ahead of this machine's clock ({int(now)})."
        )
    if floor is not None and manifest.generation == floor.generation and digest != floor.digest:
        raise ConflictingGeneration(
            f"Generation {manifest.generation} of {manifest.certificate} came a second time with "
            "another content."
        )


def _check_dates(manifest: Manifest, leaf: x509.Certificate, now: float) -> None:
    check_validity(leaf, now)
    if manifest.not_after != int(leaf.not_valid_after_utc.timestamp()):
        raise OutsideValidity(
            "The manifest states another end of validity than the certificate has."
        )


def _check_anchors(chain: Chain, wanted: Wanted, now: float) -> None:
    if not dns_names(chain[0]):
        raise NameMismatch("The certificate has no name.")
    if not wanted.anchors:
        raise UntrustedChain("There is no root certificate to verify the chain with.")
    for roots in wanted.anchors:
        check_chain(chain, roots, now)


def _check_names(manifest: Manifest, leaf: x509.Certificate, wanted: Wanted) -> None:
    check_names(leaf, manifest.names)
    for name in wanted.names:
        if not any(DnsName(offered).covers(name) for offered in manifest.names):
            raise NameMismatch(
                f"The certificate is for {', '.join(manifest.names):.200}, which does not cover "
                f"{name}, as a target here needs.",
                do=f"If that name has moved away: internal-puller target change "
                f"{wanted.certificate} --remove-name {name}. Else put it into the certificate "
                f"again, where that is done.",
            )


def _open_key(
    manifest: Manifest,
    leaf: x509.Certificate,
    identity: Identity,
    pending_keys: Mapping[str, bytes],
) -> bytes:
    if spki_sha256(leaf) != manifest.spki_sha256:
        raise KeyMismatch("The manifest names another public key than the certificate's.")
    if manifest.sealed_key is None:
        key_der = pending_keys.get(manifest.spki_sha256)
        if key_der is None:
            raise KeyMismatch("The certificate's key is none of those made on this machine.")
    else:
        context = SealContext(
            agent=manifest.agent,
            recipient=manifest.recipient,
            generation=manifest.generation,
            spki_sha256=manifest.spki_sha256,
            certificate=manifest.certificate,
        )
        key_der = identity.open(manifest.sealed_key, context)
    check_key(load_key(key_der), leaf)
    return key_der
