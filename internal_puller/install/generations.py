"""The generations of one target on disk: staging, activating, remembering, pruning."""

from __future__ import annotations

import json
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from internal_puller.install import layout, mounts
from internal_puller.install.durable import Directory, Ownership
from internal_puller.install.fixed import FixedNames
from internal_puller.install.formats import OWN_COPY, FileContent, same_content
from internal_puller.install.layout import SetAside, generation_of, make_name, parse_name
from internal_puller.install.places import open_directories, open_staging, refused
from shared.contract.errors import ConfigurationError, StageFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from internal_puller.install.mounts import Mounted
    from internal_puller.settings.targets import Target

MAX_SET_ASIDE: Final = 20


@dataclass(frozen=True)
class Accounts:
    """Who owns public and secret files, and their modes."""

    public: Ownership
    secret: Ownership

    def of(self, file: FileContent) -> Ownership:
        """Return what one file gets; ours stay ours."""
        if file.own:
            return Ownership(-1, -1, 0o600 if file.secret else 0o644)
        return self.secret if file.secret else self.public


class Generations:
    """The directory of a target, held open. The caller holds the installation lock.

    Methods raise ``StageFailed`` when the file system refuses.
    """

    def __init__(self, target: Target, *, read_only: bool = False) -> None:
        self._target = target
        self._read_only = read_only

    def __enter__(self) -> Self:
        create = not self._read_only
        with ExitStack() as stack:
            try:
                self._root, self._all = open_directories(stack, self._target, create=create)
                if create:
                    self._staging = open_staging(stack, self._target, self._root, self._all)
                    self._remove_leftovers()
            except OSError as error:
                raise self._failed("be prepared", error) from error
            self._stack = stack.pop_all()
        if create:
            copies = self._target.layout == "copy"
            self._fixed = FixedNames(self._root, self._all, self._staging, copies)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _remove_leftovers(self) -> None:
        """Remove what a killed run left under temporary names."""
        for name in self._staging.names():
            if name.startswith(layout.TEMPORARY):
                self._staging.remove(name)

    def _failed(self, verb: str, error: OSError) -> StageFailed:
        return refused(self._target, verb, error)

    def active(self) -> str | None:
        """Return the name of the directory that ``current`` points to."""
        try:
            link = self._root.read_link(layout.CURRENT)
        except OSError as error:
            raise ConfigurationError(
                f"{self._target.directory / layout.CURRENT} is no symbolic link.",
                do="Move it out of the way, or choose another directory for the target.",
            ) from error
        return None if link is None else layout.parse_link(link, self._target.directory)

    def names(self) -> list[str]:
        """Return the generations' directory names, the oldest first."""
        found = [(parsed, name) for name in self._all.names() if (parsed := parse_name(name))]
        return [name for _, name in sorted(found)]

    def find(self, generation: int) -> str | None:
        """Return the newest directory name of a generation."""
        return next((n for n in reversed(self.names()) if generation_of(n) == generation), None)

    # --- staging -----------------------------------------------------------------------------

    def stage(
        self,
        generation: int,
        files: Mapping[str, FileContent],
        accounts: Accounts,
        password: bytes | None,
    ) -> str:
        """Write a generation under a temporary name, make it durable, rename it into place.

        Returns the directory's name. What is there already, complete and the same, is kept, and
        its fixed names are put right where it is the current one.
        """
        try:
            self._fixed.check()
            taken = [name for name in self.names() if generation_of(name) == generation]
            for name in reversed(taken):
                if self._holds(name, files, accounts, password):
                    self._all.sync()  # an earlier run may have died before its own
                    if name == self.active():
                        self._fixed.lead_to(name)
                        self._fixed.leave_only(name)
                    return name
            parsed = parse_name(taken[-1]) if taken else None
            name = make_name(generation, parsed[1] + 1 if parsed else 0)
            self._write(name, files, accounts)
        except OSError as error:
            raise self._failed("take the new generation", error) from error
        return name

    def _write(self, name: str, files: Mapping[str, FileContent], accounts: Accounts) -> None:
        temporary = Directory.temporary_name()
        try:
            with self._staging.make_directory(temporary) as directory:
                for file_name, file in files.items():
                    directory.write(file_name, file.content, accounts.of(file))
                directory.set_mode(0o755)
                directory.sync()
            self._all.take(self._staging, temporary, name)
        except OSError:
            self._discard(temporary)
            raise
        self._all.sync()

    def _discard(self, temporary: str) -> None:
        with suppress(OSError):  # the next run removes it
            self._staging.remove(temporary)

    def _holds(
        self,
        name: str,
        files: Mapping[str, FileContent],
        accounts: Accounts,
        password: bytes | None,
    ) -> bool:
        try:
            with self._all.child(name) as directory:
                if set(directory.names()) != set(files):
                    return False
                for file_name, file in files.items():
                    if not accounts.of(file).fits(directory.status(file_name)):
                        return False
                    content = _readable(directory, file_name)
                    if content is None:
                        if OWN_COPY not in files:
                            return False
                    elif not same_content(file_name, content, file.content, password):
                        return False
        except (OSError, ConfigurationError):
            return False
        return True

    def read(self, name: str, *files: str) -> dict[str, bytes]:
        """Return the files of one generation by name, or those that are named.

        What was given to another account and is not to be read by us is left out.
        """
        try:
            with self._all.child(name) as directory:
                found = {file: _readable(directory, file) for file in files or directory.names()}
        except OSError as error:
            raise self._failed(f"be read ({name})", error) from error
        return {file: content for file, content in found.items() if content is not None}

    # --- activation --------------------------------------------------------------------------

    def activate(self, name: str | None) -> None:
        """Let ``current`` point to a generation by one rename; None takes ``current`` away.

        The fixed names follow: what is new before it, what is stale after it.
        """
        try:
            if name is None:
                self._root.remove_durably(layout.CURRENT)
            else:
                self._fixed.lead_to(name)
                destination = f"{layout.GENERATIONS}/{name}"
                self._root.replace_link(layout.CURRENT, destination, self._staging)
            self._fixed.leave_only(name)
        except OSError as error:
            raise self._failed(f"activate generation {name}", error) from error

    def _read_note(self, name: str) -> tuple[dict[str, Any] | None, Path]:
        path = self._target.directory / name
        try:
            content, _ = self._root.read(name)
        except FileNotFoundError:
            return None, path
        except OSError as error:
            raise layout.not_ours(path) from error
        return layout.decode_json(content, path), path

    # --- memory of failures ------------------------------------------------------------------

    def set_aside(self) -> Mapping[int, SetAside]:
        """Return the generations that failed here."""
        document, path = self._read_note(layout.SET_ASIDE)
        return layout.decode_set_aside(document or {}, path)

    def mark(self, generation: int, reason: SetAside) -> None:
        """Set a generation aside, durably."""
        self._write_set_aside({**self.set_aside(), generation: reason})

    def clear(self, generation: int) -> None:
        """Take a generation back, if it was set aside."""
        marks = dict(self.set_aside())
        if marks.pop(generation, None) is not None:
            self._write_set_aside(marks)

    def _write_set_aside(self, marks: Mapping[int, SetAside]) -> None:
        newest = sorted(marks)[-MAX_SET_ASIDE:]
        document = {str(number): asdict(marks[number]) for number in newest}
        try:
            self._root.replace(layout.SET_ASIDE, json.dumps(document).encode(), self._staging)
        except OSError as error:
            raise self._failed("note a failure", error) from error

    # --- pruning -----------------------------------------------------------------------------

    def prune(
        self, keep: int, *protected: str | None, mounted: Callable[[], Mounted] | None = None
    ) -> None:
        """Remove all but the newest ``keep`` generations; never one that is named.

        What a mount names, or might name because it could not be looked at, stays as well.

        Args:
            mounted: looks at the mounts, only asked where there is something to remove; whoever
                prunes for many targets gives one that looks once. None looks for this one.
        """
        names = self.names()
        spared = {*names[-keep:], *protected, self.active()}
        old = [name for name in names if name not in spared]
        if not old:
            return
        found = mounted() if mounted is not None else mounts.mounted((self._target,))
        place = self._target.directory / layout.GENERATIONS
        try:
            for name in old:
                if not found.may_name(place / name):
                    self._remove(name)
        except OSError as error:
            raise self._failed("be pruned", error) from error

    def _remove(self, name: str) -> None:
        """Take a generation out of sight by one rename, durably, and then apart."""
        temporary = Directory.temporary_name()
        self._staging.take(self._all, name, temporary)
        self._all.sync()
        self._staging.remove(temporary)

    # --- rehearsing --------------------------------------------------------------------------

    def try_out(
        self, files: Mapping[str, FileContent], accounts: Accounts, password: bytes | None
    ) -> None:
        """Write files as an installation would, read them back, and take them away again."""
        temporary = Directory.temporary_name()
        try:
            with self._staging.make_directory(temporary) as directory:
                for name, file in files.items():
                    directory.write(name, file.content, accounts.of(file))
                    found, status = directory.read(name)
                    if not accounts.of(file).fits(status) or not same_content(
                        name, found, file.content, password
                    ):
                        raise StageFailed(f"{directory.path}: {name} is not as it was written.")
        except OSError as error:
            raise self._failed("take the files", error) from error
        finally:
            self._discard(temporary)


def _readable(directory: Directory, name: str) -> bytes | None:
    """Return a file; ``None`` for one that was given away, of which there is a copy for us."""
    try:
        return directory.read(name)[0]
    except PermissionError:
        return None
