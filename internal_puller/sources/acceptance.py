"""What every source does with a generation that passed the rules; never on the quiet path."""

from __future__ import annotations

from collections.abc import Sequence

from internal_puller import trust
from internal_puller.install.material import Material
from internal_puller.install.roots import anchors_of
from internal_puller.settings.targets import Target
from internal_puller.state.pending import PendingKeys
from internal_puller.state.progress import CertificateProgress
from internal_puller.state.state import StateDirectory
from shared.contract.bundle import Manifest


class Acceptance:
    """
    Args:
        targets: of this machine; a certificate must cover the names of every target it has.
    """

    def __init__(self, state: StateDirectory, targets: Sequence[Target]) -> None:
        self._state, self._targets = state, targets
        self._manifests: dict[str, Manifest] = {}

    def wanted(self, certificate: str) -> trust.Wanted:
        """Return what this machine knows by itself about a certificate.

        Raises:
            ConfigurationError: the roots of a target, or what was learned, cannot be read.
        """
        mine = [one for one in self._targets if one.certificate == certificate]
        return trust.Wanted(
            certificate=certificate,
            names=tuple(sorted({name for one in mine for name in one.names})),
            own_key_only=trust.takes_only_own_keys(
                [one.key_origin for one in mine],
                learned=certificate in self._state.own_keys(),
            ),
            anchors=anchors_of(mine),
        )

    def keep(self, accepted: trust.Accepted) -> Material:
        """Make durable what follows from it; return what is to be installed.

        Raises:
            ConfigurationError: it cannot be written; then it must not be installed.
        """
        manifest = accepted.manifest
        # Durable before activation, whatever happens; the rule first: alone it only refuses more.
        if manifest.key_origin == "puller":
            self._state.learn_own_keys(manifest.certificate)
        self._state.raise_floor(manifest.certificate, accepted.floor)
        if manifest.key_origin == "puller":
            self._pending(manifest.certificate).came(manifest.spki_sha256, manifest.generation)
        self._manifests[manifest.certificate] = manifest
        return Material(
            manifest.certificate,
            manifest.generation,
            accepted.digest,
            accepted.chain_pem,
            accepted.key_pem,
        )

    def in_place(self, material: Material, progress: CertificateProgress) -> None:
        """Once a generation is in place, the keys that were pending before it are of no use."""
        manifest = self._manifests[material.certificate]
        pending = self._pending(material.certificate)
        if manifest.key_origin == progress.key_origin == "agent":
            pending.clear()
        else:
            pending.in_place(manifest.spki_sha256, manifest.generation)

    def _pending(self, certificate: str) -> PendingKeys:
        return PendingKeys(self._state.path, certificate)
