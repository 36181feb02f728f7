"""Asks the CAs for what is due, one certificate after another; never on the quiet path."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from internal_puller.settings.config import Settings
from internal_puller.sources.direct.record import DirectFiles, DirectProgress
from internal_puller.sources.direct.schedule import wants_look
from internal_puller.sources.direct.settings import DirectCertificate, DirectSettings
from internal_puller.sources.source import WhileWaiting
from shared.contract.errors import ConfigurationError, RelayError, unexpected

if TYPE_CHECKING:
    from internal_puller.sources.direct.issuing import DirectIssuing


class Ordering:
    """The orders of one pull; the caller holds the lock of direct mode.

    Args:
        floors: certificate to the highest generation that was ever accepted here.
        is_due: tells whether a certificate is to be ordered now.
        clock: unix seconds.
        while_waiting: entered around every pause in an order; may raise to end it.

    Attributes:
        failed: certificates whose order failed, and why.
    """

    def __init__(
        self,
        direct: DirectSettings,
        settings: Settings,
        files: DirectFiles,
        *,
        floors: Callable[[str], int],
        is_due: Callable[[DirectCertificate], bool],
        clock: Callable[[], float],
        while_waiting: WhileWaiting,
        say: Callable[[str], None],
    ) -> None:
        self.failed: dict[str, RelayError] = {}
        self._direct, self._settings, self._files = direct, settings, files
        self._floors, self._is_due, self._clock = floors, is_due, clock
        self._while_waiting, self._say = while_waiting, say

    def order(self, todo: Sequence[DirectCertificate]) -> None:
        """Order what is due of these, and look at what the CA advises for the others."""
        try:
            issuing = self._issuing()
        except RelayError as error:
            self.failed |= {one.certificate: error for one in todo}
            return
        for one in todo:
            try:
                self._settle(issuing, one)
            except RelayError as error:
                self.failed[one.certificate] = error
            except Exception as fault:  # a bug in one must not stop the others
                self.failed[one.certificate] = unexpected(one.certificate, fault)

    def _settle(self, issuing: DirectIssuing, one: DirectCertificate) -> None:
        progress = issuing.settle(one)
        if wants_look(progress, self._clock()) and not self._is_due(one):
            issuing.look(one, progress)
        self._order(issuing, one, progress)

    def _order(
        self, issuing: DirectIssuing, one: DirectCertificate, progress: DirectProgress
    ) -> None:
        """Ask one CA after another, as long as one may be asked at once."""
        for _ in self._direct.directories(one):
            if not self._is_due(one):
                return
            try:
                issuing.order(one, progress)
                self.failed.pop(one.certificate, None)
            except RelayError as error:
                self.failed[one.certificate] = error

    def _issuing(self) -> DirectIssuing:
        try:
            from internal_puller.sources.direct.connection import DirectConnection
            from internal_puller.sources.direct.issuing import DirectIssuing
        except ModuleNotFoundError as error:
            raise missing_extra(error) from error
        connection = DirectConnection(
            self._direct, self._settings, self._files, clock=self._clock, sleep=self._sleep
        )
        return DirectIssuing(
            self._direct,
            self._files,
            connection,
            floors=self._floors,
            clock=self._clock,
            sleep=self._sleep,
            say=self._say,
        )

    def _sleep(self, seconds: float) -> None:
        with self._while_waiting():
            time.sleep(seconds)


def missing_extra(error: ModuleNotFoundError) -> ConfigurationError:
    """Return what to say where direct mode's libraries are not installed.

    Raises:
        ModuleNotFoundError: the one given, if it is one of our own modules that is missing.
    """
    package = (error.name or "").partition(".")[0]
    if package in ("shared", "internal_puller", ""):
        raise error
    return ConfigurationError(
        f"Direct mode needs the Python package {package}, which is not installed.",
        do="Install split-horizon-relay with the extras puller and direct: "
        "split-horizon-relay[puller,direct].",
    )
