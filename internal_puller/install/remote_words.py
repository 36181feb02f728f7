"""What went wrong with another machine, in words: what, where, what to do."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, Final

from shared.contract import plain_text
from shared.contract.errors import StageFailed

if TYPE_CHECKING:
    from internal_puller.install.remote_openssh import Machine
    from internal_puller.install.remote_settings import Reach

_CAUSE: Final = {
    errno.ECONNREFUSED: "refuses the connection",
    errno.EHOSTUNREACH: "cannot be reached: there is no way to it",
    errno.ENETUNREACH: "cannot be reached: there is no way to its network",
    errno.ETIMEDOUT: "does not answer",
    errno.ECONNRESET: "closed the connection before the login",
}


def not_reached(reach: Reach, machine: Machine, error: Exception) -> StageFailed:
    """Return why there is no connection to a machine, or to one on the way to it."""
    import asyncssh

    who = str(reach) if reach.machine is machine else f"{reach}, on the way to {machine},"
    if isinstance(error, asyncssh.HostKeyNotVerifiable):
        files = " or ".join(map(str, reach.known_hosts))
        return StageFailed(
            f"The host key of {who} is not the known one, or none is known: {_reason(error)}.",
            do="Compare its fingerprint on the machine itself, then put the key into "
            f"{files} (ssh-keyscan prints it). If it changed and nobody changed it, somebody may "
            "be in between.",
        )
    if isinstance(error, asyncssh.PermissionDenied):
        more = " A ControlMaster connection of ssh is not used." if reach.has_control_path else ""
        return StageFailed(
            f"{who} does not let us in: {_reason(error)}.",
            do=f"Put the public key into authorized_keys of {reach.user} there, see that the "
            f"account is neither locked nor expired, and name the private key: ssh_key.{more}",
        )
    if isinstance(error, asyncssh.KeyExchangeFailed):
        return StageFailed(
            f"{who} offers no algorithm that is accepted here: {_reason(error)}.",
            do="Update the SSH server there.",
        )
    return StageFailed(
        f"{who} {_cause(reach, error)}.",
        do=f"See that {reach.host} answers SSH at port {reach.port}, from this machine: "
        f"ssh -p {reach.port} {reach.user}@{reach.host} true",
    )


def _cause(reach: Reach, error: Exception) -> str:
    import asyncssh

    if isinstance(error, socket.gaierror):
        return f"cannot be reached: the name {reach.host} is not resolved"
    if isinstance(error, TimeoutError):
        return f"did not answer by SSH within {reach.connect_seconds:g} s"
    if isinstance(error, asyncssh.ProtocolError | asyncssh.ProtocolNotSupported):
        return f"does not speak SSH at port {reach.port}: {_reason(error)}"
    if isinstance(error, asyncssh.ConnectionLost) and "timeout" in _reason(error).lower():
        return f"did not answer by SSH within {reach.connect_seconds:g} s"
    if isinstance(error, asyncssh.ConnectionLost) or reach.command:
        through = f" (ProxyCommand {reach.command})" if reach.command else ""
        return f"closed the connection before the login{through}: {_reason(error)}"
    number = error.errno if isinstance(error, OSError) else None
    return _CAUSE.get(number or 0, f"cannot be reached: {_reason(error)}")


def key_unusable(reach: Reach, error: Exception) -> StageFailed:
    """Return why a private key cannot be used."""
    names = " or ".join(map(str, reach.keys))
    return StageFailed(
        f"ssh_key {names} cannot be used: {_reason(error)}.",
        do="Name a private key without a passphrase.",
    )


def not_done(what: str, machine: Machine, error: Exception, limit: float) -> StageFailed:
    """Return why something did not end well on a machine that was reached.

    Args:
        what: the beginning of the sentence, up to the machine's name.
        limit: seconds that it had.
    """
    import asyncssh

    if isinstance(error, asyncssh.ChannelOpenError):
        return StageFailed(
            f"{what} {machine}: it lets us in, and begins no session: {_reason(error)}.",
            do="See MaxSessions, ForceCommand and the account's shell there.",
        )
    if isinstance(error, asyncssh.DisconnectError | ConnectionError | BrokenPipeError):
        return StageFailed(
            f"{what} {machine}: the connection was lost: {_reason(error)}.",
            do="The next pull continues: internal-puller pull",
        )
    if isinstance(error, TimeoutError):
        return too_late(what, machine, limit)
    return StageFailed(f"{what} {machine}: {_reason(error)}.")


def lost(machine: Machine, program: str) -> StageFailed:
    """Return that how a command ended is not known: its connection ended before it."""
    return StageFailed(
        f"{program} could not be run at {machine} to its end: the connection was lost.",
        do="The next pull continues: internal-puller pull",
    )


def too_late(what: str, machine: Machine, limit: float) -> StageFailed:
    """Return that a machine was waited for long enough: ``limit`` in seconds."""
    return StageFailed(
        f"{what} {machine}: it did not answer in time ({limit:g} s at most).",
        do="See what keeps it busy; the next pull continues.",
    )


def no_sftp(machine: Machine, noise: str, error: Exception | None) -> StageFailed:
    """Return why files cannot be brought there although the machine lets us in.

    Args:
        noise: what a login file there prints before a command.
    """
    if noise:
        return StageFailed(
            f"{machine} speaks no SFTP: a login file there prints {noise!r:.120} before it.",
            do="Let .bashrc and its like print only in a terminal, or set in sshd_config: "
            "Subsystem sftp internal-sftp",
        )
    reason = _reason(error) if error else "it ended at once"
    return StageFailed(
        f"{machine} speaks no SFTP, by which the files are brought there: {reason}.",
        do="Set in its sshd_config: Subsystem sftp internal-sftp; a ForceCommand of this account "
        "must be gone.",
    )


def no_command(machine: Machine, printed: str, how: str) -> StageFailed:
    """Return why no command is run there: something else answered in its place."""
    said = f": {printed!r:.200}" if printed else ""
    return StageFailed(
        f"{machine} runs no commands for this account ({how}){said}.",
        do="Give the account a POSIX shell there (usermod -s /bin/sh USER), and no ForceCommand.",
    )


def refused_by_sftp(
    machine: Machine, doing: str, error: Exception, room: tuple[bool, int, int] | None
) -> StageFailed:
    """Return why the other machine did not do something with a file.

    Args:
        doing: "PLACE could not be written", say.
        room: whether the file system is read-only, and what blocks and files are left; ``None``
            if that could not be asked.
    """
    import asyncssh

    if isinstance(error, asyncssh.SFTPOpUnsupported):
        return StageFailed(
            f"{machine}: {doing}: its SFTP server cannot do it ({_reason(error)}).",
            do="A server with posix-rename@openssh.com is needed, such as OpenSSH's internal-sftp.",
        )
    if isinstance(error, asyncssh.SFTPPermissionDenied):
        return StageFailed(
            f"{machine}: {doing}: this account may not.",
            do="Let the directory belong to the user that ssh names, mode 0755: chown, chmod.",
        )
    if room is not None and room[0]:
        return StageFailed(
            f"{machine}: {doing}: the file system there is read-only.",
            do="Mount it writable; after a fault of the disk see dmesg there.",
        )
    if room is not None and 0 in room[1:]:
        return StageFailed(f"{machine}: {doing}: the disk is full there.", do="Make room there.")
    return StageFailed(
        f"{machine}: {doing}: {_reason(error)}.",
        do="See owner, mode, quota and disk of that directory there.",
    )


def _reason(error: Exception) -> str:
    text = getattr(error, "reason", None) or str(error) or type(error).__name__
    return plain_text.one_line(text)[:300].rstrip(". ")
