"""Files made durable below an open directory, so that nobody can redirect a write by a link."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from internal_puller.install.layout import TEMPORARY
from internal_puller.settings.account import is_trusted, service_ids
from shared.contract.errors import ConfigurationError
from shared.host.whole_file import give_to_owner_of

if TYPE_CHECKING:
    from collections.abc import Iterator

_OPEN_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
MAX_BYTES: Final = 4 << 20
_INHERITED: Final = ("security.selinux", "system.posix_acl_default")
"""What a directory gives to each file that is made in it, and a rename does not."""


@dataclass(frozen=True)
class Ownership:
    """User and group ids (-1: leave as born) and permission bits."""

    uid: int
    gid: int
    mode: int

    def fits(self, status: os.stat_result) -> bool:
        """Tell whether a file has these already."""
        return (
            stat.S_IMODE(status.st_mode) == self.mode
            and self.uid in (-1, status.st_uid)
            and self.gid in (-1, status.st_gid)
        )


class Directory:
    """An open directory. Every method works on its entries, never on a path. Raises ``OSError``."""

    def __init__(self, descriptor: int, path: Path) -> None:
        self._fd = descriptor
        self.path = path

    @classmethod
    def open(cls, path: Path, *, create: bool = False) -> Self:
        """Open a directory that only root and we can change.

        Raises:
            ConfigurationError: no directory, a link, somebody else's, or open to others.
        """
        try:
            if create and not path.is_symlink():
                _make_directories(path)
            descriptor = os.open(path, _OPEN_DIRECTORY)
        except OSError as error:
            reason = "it is a symbolic link" if path.is_symlink() else error.strerror
            raise ConfigurationError(
                f"{path} cannot be used as a directory: {reason}.",
                do="Give the target a directory that belongs to internal-puller, or to root.",
            ) from error
        return cls(descriptor, path)._checked()

    def child(self, name: str, *, create: bool = False) -> Directory:
        """Open a sub-directory under the same conditions; ``create`` makes it if missing."""
        if create and name not in self.names():
            self.make_directory(name, 0o755).close()
            self.sync()
        try:
            descriptor = os.open(name, _OPEN_DIRECTORY, dir_fd=self._fd)
        except NotADirectoryError as error:
            raise ConfigurationError(f"{self.path / name} is no directory.") from error
        return Directory(descriptor, self.path / name)._checked()

    def parent(self) -> Directory:
        """Open the directory that this one is in, whosever it is: only to go through it."""
        flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
        return Directory(os.open("..", flags, dir_fd=self._fd), self.path.parent)

    def opened(self) -> Directory:
        """Open what ``parent`` returned, to list or sync it."""
        return Directory(os.open(".", _OPEN_DIRECTORY, dir_fd=self._fd), self.path)

    def beside(self, name: str) -> Directory:
        """Open a directory next to this one, made if missing: of the same owner, 0700."""
        with self.parent() as parent:
            if not parent.has(name):
                with contextlib.suppress(FileExistsError):  # another process is as quick
                    parent.make_directory(name).close()
                with parent.opened() as readable:
                    readable.sync()
            opened = os.open(name, _OPEN_DIRECTORY, dir_fd=parent._fd)
            found = Directory(opened, parent.path / name)._checked()
        owner, its = os.fstat(self._fd), os.fstat(opened)
        if os.geteuid() == 0 and owner.st_uid != its.st_uid:
            found.give(owner.st_uid, owner.st_gid)
        return found

    def inherit_as(self, other: Directory) -> None:
        """Let what is made here get the label and the access list that it would get there.

        As far as that is ours to say: a server that may not read says so at its test.
        """
        for name in _INHERITED:
            wanted = other._attribute(name)
            if wanted == self._attribute(name):
                continue
            with contextlib.suppress(OSError):
                if wanted is None:
                    os.removexattr(self._fd, name)
                else:
                    os.setxattr(self._fd, name, wanted)

    def _attribute(self, name: str) -> bytes | None:
        try:
            return os.getxattr(self._fd, name)
        except OSError:  # it has none, or there are none here
            return None

    def has(self, name: str) -> bool:
        """Tell whether there is an entry of this name, a link itself."""
        try:
            self.status(name)
        except FileNotFoundError:
            return False
        return True

    def is_one_mount_with(self, other: Directory) -> bool:
        """Tell whether one rename can go from here to there.

        The same device is not enough: a bind mount (``ReadWritePaths=`` of systemd makes one, and
        so does a container's volume) is another one to rename(2).
        """
        return self._mount() == other._mount()

    def _mount(self) -> tuple[int, str]:
        try:
            lines = Path(f"/proc/self/fdinfo/{self._fd}").read_text().splitlines()
        except OSError:  # no /proc: rename says it, then
            lines = []
        number = next((line for line in lines if line.startswith("mnt_id:")), "")
        return os.fstat(self._fd).st_dev, number

    def _checked(self) -> Self:
        status = os.fstat(self._fd)
        mode = stat.S_IMODE(status.st_mode)
        loose = mode & (stat.S_IWGRP | stat.S_IWOTH) and not mode & stat.S_ISVTX
        if loose or not is_trusted(status.st_uid):
            self.close()
            raise ConfigurationError(
                f"{self.path} can be changed by other users (owner {status.st_uid}, "
                f"mode {mode:04o}).",
                do="Let it belong to root or to the service's account, mode 0755; or name another.",
            )
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the handle."""
        os.close(self._fd)

    def names(self) -> list[str]:
        """Return the entries' names, sorted."""
        return sorted(os.listdir(self._fd))  # noqa: PTH208 - a descriptor, no path

    def sync(self) -> None:
        """Make the entries durable."""
        os.fsync(self._fd)

    def write(self, name: str, content: bytes, ownership: Ownership) -> None:
        """Make a new file, nobody else's from birth, and make its content durable."""
        descriptor = os.open(name, _NEW_FILE, 0o600, dir_fd=self._fd)
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fchmod(descriptor, ownership.mode)  # once it is another's, it is not ours to change
            give_to_owner_of(self._fd, descriptor)
            if ownership.uid != -1 or ownership.gid != -1:
                os.fchown(descriptor, ownership.uid, ownership.gid)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def status(self, name: str) -> os.stat_result:
        """Return what an entry is, a link itself."""
        return os.stat(name, dir_fd=self._fd, follow_symlinks=False)

    def read(self, name: str) -> tuple[bytes, os.stat_result]:
        """Return a regular file's bytes and status, following no link."""
        descriptor = os.open(name, _READ_FILE, dir_fd=self._fd)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
                raise OSError(f"{self.path / name} is no ordinary small file")
            return file.read(MAX_BYTES), status

    def replace(
        self,
        name: str,
        content: bytes,
        staging: Directory | None = None,
        ownership: Ownership | None = None,
    ) -> None:
        """Replace a file (of ours, 0600, if not said otherwise), wholly or not at all.

        Args:
            staging: where it is made first; ``None``: here, where nobody else looks.
        """
        staging = staging or self
        with self._placed(name, staging) as temporary:
            staging.write(temporary, content, ownership or Ownership(-1, -1, 0o600))

    def replace_link(self, name: str, destination: str, staging: Directory) -> None:
        """Point a symbolic link elsewhere by one rename, and make that durable."""
        with self._placed(name, staging) as temporary:
            staging.make_link(temporary, destination)

    def make_link(self, name: str, destination: str) -> None:
        """Make a symbolic link where nothing is; ``sync`` makes it durable."""
        os.symlink(destination, name, dir_fd=self._fd)

    @contextlib.contextmanager
    def _placed(self, name: str, staging: Directory) -> Iterator[str]:
        temporary = self.temporary_name()
        try:
            yield temporary
            self.take(staging, temporary, name)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=staging._fd)
            raise
        self.sync()

    @staticmethod
    def temporary_name() -> str:
        """Return a new name, for a staging directory: never beside ``current``."""
        return TEMPORARY + secrets.token_hex(8)

    def read_link(self, name: str) -> str | None:
        """Return where a link points, None if there is none."""
        try:
            return os.readlink(name, dir_fd=self._fd)
        except FileNotFoundError:
            return None

    def make_directory(self, name: str, mode: int = 0o700) -> Directory:
        """Make a new directory, whatever the umask, and open it."""
        os.mkdir(name, 0o700, dir_fd=self._fd)
        made = Directory(os.open(name, _OPEN_DIRECTORY, dir_fd=self._fd), self.path / name)
        made.set_mode(mode)
        give_to_owner_of(self._fd, made._fd)
        return made

    def give(self, uid: int, gid: int) -> None:
        """Give the directory itself to another account."""
        os.fchown(self._fd, uid, gid)

    def set_mode(self, mode: int) -> None:
        """Set the permission bits of the directory itself."""
        os.fchmod(self._fd, mode)

    def take(self, other: Directory, name: str, new: str) -> None:
        """Rename an entry of another directory into this one; ``sync`` makes it durable."""
        os.rename(name, new, src_dir_fd=other._fd, dst_dir_fd=self._fd)

    def remove(self, name: str) -> None:
        """Remove a file, a link, or a directory of plain files; missing is fine."""
        try:
            os.unlink(name, dir_fd=self._fd)
        except FileNotFoundError:
            return
        except (IsADirectoryError, PermissionError):
            with Directory(os.open(name, _OPEN_DIRECTORY, dir_fd=self._fd), self.path) as child:
                for entry in child.names():
                    child.remove(entry)
            os.rmdir(name, dir_fd=self._fd)

    def remove_durably(self, name: str) -> None:
        """Remove one entry and make that durable."""
        self.remove(name)
        self.sync()


def _make_directories(path: Path) -> None:
    """Like ``mkdir -p``, mode 0755 whatever the umask, each one durable.

    The last one is the service's, where there is one: it works there, whoever made it.
    """
    missing = [each for each in (path, *path.parents) if not each.exists()]
    service = service_ids()
    for each in reversed(missing):
        parent = os.open(each.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        with Directory(parent, each.parent) as opened:
            with opened.make_directory(each.name, 0o755) as made:
                if service is not None and each == path:
                    made.give(*service)
            opened.sync()
