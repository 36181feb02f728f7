"""Whether a bundle may be installed: every trust rule in one place, in a fixed order, no I/O."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from cryptography import x509

from internal_puller.state.floor import Floor
from shared.contract.bundle import PAYLOAD_TYPE, Manifest, manifest_digest, parse_envelope
from shared.contract.chain_rules import check_chain
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
from shared.contract.key_policy import PrivateKey, key_to_pem, load_key
from shared.contract.sealing import Identity, SealContext
from shared.contract.signing import VerifyKey
from shared.contract.x509 import (
    chain_to_pem,
    check_key,
    check_names,
    check_validity,
    in_words,
    load_chain,
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
        own_key_only: see :func:`takes_only_own_keys`.
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
        chain: the certificates that were checked, leaf first, and nothing else.
    """

    manifest: Manifest
    digest: str
    chain: Chain
    key: PrivateKey = field(repr=False)

    @property
    def chain_pem(self) -> str:
        """What is written: the certificates that were checked, not the text that came."""
        return chain_to_pem(self.chain)

    @property
    def key_pem(self) -> bytes:
        """What is written: PKCS#8."""
        return key_to_pem(self.key)

    @property
    def floor(self) -> Floor:
        return Floor(self.manifest.generation, self.digest)


def takes_only_own_keys(key_origins: Iterable[str], *, learned: bool) -> bool:
    """Whether only keys made on this machine may be installed: the stricter of both wins.

    Args:
        key_origins: what an administrator set, one for each target: ``any`` or ``puller``.
        learned: a certificate for a key made here was accepted before, and no command on this
            machine has taken the agent's keys back in since (FORMAT.md, section 9).
    """
    return learned or "puller" in key_origins


def accept(
    envelope: bytes,
    *,
    agent: VerifyKey,
    identity: Identity,
    wanted: Wanted,
    floor: Floor | None,
    pending_keys: Mapping[str, bytes],
    now: float,
    payload_type: str = PAYLOAD_TYPE,
) -> Accepted:
    """Return what may be installed.

    Args:
        envelope: the bundle as it came.
        payload_type: the one kind of bundle that is taken: to be installed, or of a rehearsal.
        agent: the key pinned at enrolment.
        identity: our sealing key.
        floor: the highest generation that passed before, if any.
        pending_keys: PKCS#8 DER of keys made here, by the hex SHA-256 of their SPKI.
        now: unix seconds.

    Raises:
        BundleError: exactly one member of the family, for the first check that fails.
    """
    # 1. Size and shape of the envelope.
    parsed = parse_envelope(envelope, payload_type=payload_type)
    # 2. Signed by the pinned agent; from here on only the verified bytes are looked at.
    payload = parsed.open(agent)
    # 3. Shape of the manifest.
    manifest = Manifest.decode(payload)
    digest = manifest_digest(payload)
    # 4. From our agent, for us.
    _check_parties(manifest, agent, identity)

    def open_key(leaf: x509.Certificate) -> PrivateKey:
        return _open_key(manifest, leaf, identity, pending_keys)

    return _accept_content(manifest, digest, wanted=wanted, floor=floor, open_key=open_key, now=now)


def accept_own(
    manifest: Manifest, key: PrivateKey, *, wanted: Wanted, floor: Floor | None, now: float
) -> Accepted:
    """Return what may be installed of a certificate that this machine got from a CA by itself.

    Nobody signed the statement, so there is no agent to check; every other rule is the same.

    Args:
        manifest: what we state about it ourselves, with ``key_origin`` ``puller``.
        key: as ``key_policy`` reads it.

    Raises:
        BundleError: for the first check that fails.
    """

    def open_key(leaf: x509.Certificate) -> PrivateKey:
        check_key(key, leaf)
        return key

    digest = manifest_digest(manifest.encode())
    return _accept_content(manifest, digest, wanted=wanted, floor=floor, open_key=open_key, now=now)


def _accept_content(
    manifest: Manifest,
    digest: str,
    *,
    wanted: Wanted,
    floor: Floor | None,
    open_key: Callable[[x509.Certificate], PrivateKey],
    now: float,
) -> Accepted:
    # 5. The certificate that was asked for, and a key origin that its targets allow.
    _check_certificate(manifest, wanted)
    # 6. Not backwards, not far ahead.
    _check_generation(manifest, digest, floor, now)
    with in_words(MalformedBundle, "A certificate of the chain"):
        chain = load_chain(manifest.chain)
        # 7. Dates.
        _check_dates(manifest, chain[0], now)
        # 8. The leaf's key, and link by link up to a root.
        _check_anchors(chain, wanted, now)
        # 9. Exactly the stated names, and all that are wanted here.
        _check_names(manifest, chain[0], wanted)
        # 10. The key.
        key = open_key(chain[0])
    return Accepted(manifest, digest, chain, key)


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
            f"The key of {manifest.certificate} was made by the agent, but only keys made "
            "on this machine are taken for it.",
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
) -> PrivateKey:
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
    key = load_key(key_der)
    check_key(key, leaf)
    return key
