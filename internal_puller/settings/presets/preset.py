"""One kind of server: everything that has to be known to install certificates for it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

Argv = tuple[str, ...]

PEM_FILES: Final = ("fullchain", "chain", "cert", "privkey")
LEAF_FIRST: Final = ("fullchain", "privkey")
KEY_FIRST: Final = ("privkey", "fullchain")
COMBINED_ORDERS: Final = {"leaf-first": LEAF_FIRST, "key-first": KEY_FIRST}
UNIT: Final = "{unit}"
CURRENT: Final = "{current}"
NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
UNIT_NAME: Final = re.compile(r"(?!-)[A-Za-z0-9:_.@\\-]{1,200}")
"""Of systemd (systemd.unit(5)); no command takes it for an option."""
_MANAGERS: Final = frozenset({"systemctl", "service", "rc-service", "invoke-rc.d"})
_STARTING: Final = frozenset({"start", "restart", "reload-or-restart", "force-reload"})
_MOST_PATIENCE: Final = 600.0


NO_PAIR: Final = (
    "formats hold no certificate with its key; they need combined, pkcs12, or privkey and fullchain"
)


def holds_pair(formats: Iterable[str]) -> bool:
    """Tell whether a server finds a certificate with its key in files of these formats."""
    holds = set(formats)
    apart = holds & {"privkey", "privkey-der"} and holds & {"fullchain", "cert", "cert-der"}
    return bool(apart or holds & {"combined", "pkcs12"})


@dataclass(frozen=True)
class Hint:
    """The lines of a server's configuration that name the files of a target.

    Attributes:
        since: the first version that takes them; empty: every one. See ``Preset.version``.
        lines: ``{current}`` stands for the directory with the files.
    """

    since: tuple[int, ...]
    lines: tuple[str, ...]

    def shown(self, current: object) -> tuple[str, ...]:
        """Return the lines for one directory."""
        return tuple(line.replace(CURRENT, str(current)) for line in self.lines)


@dataclass(frozen=True)
class Preset:
    """Every member has to be given, so that nothing of a server is forgotten.

    Attributes:
        name: what an operator writes; of a preset in presets.d, the name of its file.
        title: what its makers call the server.
        programs: one of them is there where the server is installed.
        units: of systemd, without ``.service``: what distributions call it, Debian first; empty
            where only the target knows it (``unit``).
        test: tests the configuration and changes nothing; empty: it has no such command.
        reload: makes it read its files anew and leaves it stopped if it is; ``{unit}`` stands for
            the unit here. Empty: nothing is run.
        without_systemd: the same where systemd does not run; empty: not known, so a target there
            has to say.
        restarts: ``reload`` ends the server and starts it anew.
        patience: seconds that it may take until it serves; more than 0, at most 600.
        formats: names of the files that are written for it.
        combined: what ``combined.pem`` has to hold, in the order that it demands; empty: any.
        probe: protocol and port of each place where TLS is usual; empty: nowhere.
        version: prints the version, if the hints differ by it; else empty.
        hints: what its configuration has to say; the newest version first.
        reads_as: account on Debian that reads the files, if that is not root; else empty.
        undiscovered: why ``discover`` does not read its configuration; empty: it does.
    """

    name: str
    title: str
    programs: tuple[str, ...]
    units: tuple[str, ...]
    test: Argv
    reload: Argv
    without_systemd: Argv
    restarts: bool
    patience: float
    formats: tuple[str, ...]
    combined: tuple[str, ...]
    probe: tuple[tuple[str, int], ...]
    version: Argv
    hints: tuple[Hint, ...]
    reads_as: str
    undiscovered: str

    @property
    def reads_one_file(self) -> bool:
        """Whether it may open ``combined.pem`` alone; so does what nothing is known of."""
        return "combined" in self.formats or not (self.programs or self.units)

    @property
    def needs_unit(self) -> bool:
        """Whether a target has to name its unit."""
        return UNIT in self.reload and not self.units

    def __post_init__(self) -> None:
        """Raise ``ValueError``, which says what is wrong, without saying where."""
        for wrong, what in self._faults():
            if wrong:
                raise ValueError(what)

    def _faults(self) -> tuple[tuple[bool, str], ...]:
        lines = [line for hint in self.hints for line in hint.lines]
        return (
            (not NAME.fullmatch(self.name), f"name {self.name!r:.60} must be a-z, 0-9 and '-'"),
            (not self.title, "title is empty"),
            (not lines or not all(hint.lines for hint in self.hints), "hint has no lines"),
            (not any(CURRENT in line for line in lines), f"hint names no file in {CURRENT}"),
            (
                bool(self.hints) and bool(self.hints[-1].since),
                "hints has no lines for any version",
            ),
            (not self.formats, "formats is empty"),
            (bool(self.formats) and not holds_pair(self.formats), NO_PAIR),
            (
                bool(self.combined) and "combined" not in self.formats,
                "combined is the order of combined.pem, which formats do not have",
            ),
            (
                bool(self.combined) and sorted(self.combined) != sorted(KEY_FIRST),
                f"combined must hold {' and '.join(KEY_FIRST)}, each once",
            ),
            (
                not all(UNIT_NAME.fullmatch(unit) for unit in self.units),
                "units has what is no name of a systemd unit",
            ),
            (
                any(UNIT in part for part in (*self.test, *self.without_systemd)),
                f"only reload may name {UNIT}",
            ),
            (
                _starts_it(self.reload) or _starts_it(self.without_systemd),
                "reload would start a server that somebody stopped: use try-restart or "
                "try-reload-or-restart",
            ),
            ("try-restart" in self.reload and not self.restarts, "restarts must be true"),
            (not 0 < self.patience <= _MOST_PATIENCE, "patience must be 1 to 600 seconds"),
            (any(not 0 < port < 65536 for _, port in self.probe), "probe has no TCP port"),
            (len(self.hints) > 1 and not self.version, "hints by version need version"),
        )


def _starts_it(argv: Argv) -> bool:
    """Tell whether a command is one that starts a stopped server."""
    if "--ifstarted" in argv or argv[1:2] == ("-s",):  # of rc-service
        return False
    words = [one for one in argv if not one.startswith("-")]
    if words[:1] == ["sudo"]:
        del words[0]
    if not words:
        return False
    manages = PurePosixPath(words[0]).name in _MANAGERS or words[0].startswith("/etc/init.d/")
    return manages and not _STARTING.isdisjoint(words[1:])
