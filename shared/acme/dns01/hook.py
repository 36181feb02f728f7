"""Writes records by a command of the operator's own."""

from __future__ import annotations

from shared.acme.dns01.names import TxtRecord
from shared.acme.dns01.settings import HookSettings
from shared.contract.errors import DnsFailure
from shared.host import commands


class HookPublisher:
    """Runs the command with ``ACTION`` (present or cleanup), ``DOMAIN``, ``RECORD``, ``VALUE``.

    Raises:
        ConfigurationError: the program does not exist.
    """

    needs_zone = False

    def __init__(self, settings: HookSettings) -> None:
        commands.find_program(settings.command)
        self._settings = settings

    def add(self, record: TxtRecord) -> None:
        """
        Raises:
            DnsFailure: the command failed or did not end in time.
        """
        self._run("present", record)

    def remove(self, record: TxtRecord) -> None:
        """
        Raises: as :meth:`add`.
        """
        self._run("cleanup", record)

    def _run(self, action: str, record: TxtRecord) -> None:
        facts = {
            "ACTION": action,
            "DOMAIN": record.domain,
            "RECORD": record.owner,
            "VALUE": record.value,
        }
        result = commands.run(self._settings.command, self._settings.timeout, facts)
        if not result.ok:
            raise DnsFailure(
                f"The dns-01 command {self._settings.command[0]} for {record.owner} (ACTION "
                f"{action}) {result.describe()}.",
                do="Run it by hand with the same ACTION, DOMAIN, RECORD and VALUE.",
            )
