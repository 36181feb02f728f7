"""The one durable note of a server group: what is being installed, and what was there before.

It is in ``<state>/groups/`` from before the first link is switched until all is settled. What was
seen before is in it because it cannot be seen again after a kill. Only the standard library: the
quiet path of ``pull`` asks here whether there is one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from internal_puller.install import layout
from shared.contract.errors import ConfigurationError, StageFailed

if TYPE_CHECKING:
    from internal_puller.install.durable import Directory
    from internal_puller.install.server import Running
    from internal_puller.outbox.look import Look
    from internal_puller.outbox.verdict import Verdict

GROUPS: Final = "groups"
_SUFFIX: Final = ".json"


@dataclass(frozen=True)
class Noted:
    """One member.

    Attributes:
        to: name of the generation's directory that is put in place.
        previous: of the one before; ``None`` for a first one.
        verdict: ``None`` while there is none: after a kill it is put in place and judged.
    """

    certificate: str
    to: str
    previous: str | None
    verdict: Verdict | None = None


@dataclass(frozen=True)
class Note:
    """
    Attributes:
        name: of the file, without its suffix.
        boot_id: of the servers' machine; empty if not known.
        members: by the directory of their target.
        running: how the servers stood before, by name.
        points: what the probe points of the members showed before, by directory.
        killed: names of servers that an earlier reload of ours ended, and that did not run yet
            when this began: they are started, whatever is installed now.
    """

    name: str
    boot_id: str
    members: Mapping[str, Noted]
    running: Mapping[str, Running] = field(default_factory=dict)
    points: Mapping[str, tuple[Look, ...]] = field(default_factory=dict)
    killed: frozenset[str] = frozenset()

    def encode(self) -> bytes:
        """Return it as it is on the disk."""
        document = {
            "boot_id": self.boot_id,
            "members": {where: asdict(one) for where, one in self.members.items()},
            "before": {
                "running": dict(self.running),
                "killed": sorted(self.killed),
                "points": {
                    where: [asdict(one) for one in looks] for where, looks in self.points.items()
                },
            },
        }
        return json.dumps(document, indent=1).encode()

    def only(self, directories: Collection[str]) -> Note:
        """Return what it says of some members."""
        return replace(
            self,
            members={w: one for w, one in self.members.items() if w in directories},
            points={w: looks for w, looks in self.points.items() if w in directories},
        )


def name_of(keys: Iterable[str]) -> str:
    """Return the name of a group's note."""
    return hashlib.sha256("\n".join(sorted(keys)).encode()).hexdigest()[:32]


def has_note(state: Path) -> bool:
    """Tell whether an installation did not end (see ``Engine.resume``)."""
    return bool(_paths(state))


def read_all(state: Path) -> tuple[Note, ...]:
    """Return every note. Raises ``ConfigurationError`` for a file that we did not write."""
    return tuple(_decode(path) for path in _paths(state))


def read_some(state: Path) -> Iterator[Note]:
    """Return every note that can be read."""
    for path in _paths(state):
        with suppress(ConfigurationError):
            yield _decode(path)


def write(state: Path, note: Note) -> None:
    """Write or replace a note; it is on the disk when this returns. Raises ``StageFailed``."""
    with _groups(state, "written") as directory:
        directory.replace(note.name + _SUFFIX, note.encode())


def drop(state: Path, name: str) -> None:
    """Forget a note durably; all of it is settled. Raises ``StageFailed``."""
    with _groups(state, "removed") as directory:
        directory.remove_durably(name + _SUFFIX)


def write_or_drop(state: Path, note: Note) -> None:
    """Write a note, or drop it if nobody is in it. Raises ``StageFailed``."""
    if note.members:
        write(state, note)
    else:
        drop(state, note.name)


def _paths(state: Path) -> list[Path]:
    try:
        return sorted(
            path
            for path in (state / GROUPS).iterdir()
            if path.suffix == _SUFFIX and not path.name.startswith(layout.TEMPORARY)
        )
    except FileNotFoundError:
        return []
    except OSError as error:
        raise layout.not_ours(state / GROUPS) from error


@contextmanager
def _groups(state: Path, verb: str) -> Iterator[Directory]:
    from internal_puller.install.durable import Directory

    try:
        with Directory.open(state) as own, own.child(GROUPS, create=True) as directory:
            for name in directory.names():
                if name.startswith(layout.TEMPORARY):
                    directory.remove(name)
            yield directory
    except OSError as error:
        raise StageFailed(
            f"The note of an installation in {state / GROUPS} could not be {verb}: "
            f"{error.strerror or error}.",
            do="Look at the state directory: free space, owner and mode.",
        ) from error


def _decode(path: Path) -> Note:
    from internal_puller.install.server import Running

    document = layout.read_json(path)
    try:
        assert document is not None
        before = document["before"]
        return Note(
            path.stem,
            str(document["boot_id"]),
            {str(where): _noted(one) for where, one in document["members"].items()},
            {str(name): Running(one) for name, one in before["running"].items()},
            {
                str(where): tuple(_look(one) for one in looks)
                for where, looks in before["points"].items()
            },
            frozenset(map(str, before["killed"])),
        )
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise layout.not_ours(path) from error


def _noted(entry: Mapping[str, Any]) -> Noted:
    from internal_puller.outbox.verdict import Verdict

    certificate, to, previous = entry["certificate"], entry["to"], entry["previous"]
    for name in (to, previous):
        if name is not None and layout.parse_name(name) is None:
            raise ValueError(name)
    verdict = entry["verdict"]
    return Noted(str(certificate), str(to), previous, None if verdict is None else Verdict(verdict))


def _look(entry: Mapping[str, Any]) -> Look:
    from internal_puller.outbox.look import Answer, Look, Trouble

    trouble = entry["trouble"]
    known = {
        **entry,
        "answer": Answer(entry["answer"]),
        "trouble": None if trouble is None else Trouble(trouble),
    }
    return Look(**known)
