"""Who asks, and what they may: a bearer of an access token, a user of this machine, anybody."""

from __future__ import annotations

import pwd
from dataclasses import dataclass

from external_agent.facts.access import Role

# Members of a request's ``state``, where the gate finds and leaves what is known of who asks.
CALLER = "caller"
LOCAL_USER = "local_user"
THROUGH_SOCKET = "through_socket"
STRANGER = "stranger"
"""Set for a user of this machine who may not speak to the socket."""


@dataclass(frozen=True, slots=True)
class Caller:
    """
    Attributes:
        actor: how the audit trail calls them.
        expires_at: end of their access, unix seconds; ``None`` for none.
        token: id of the access token; empty for a user of this machine, and for anybody.
    """

    actor: str
    role: Role
    expires_at: int | None = None
    token: str = ""


ANYBODY = Caller("anybody on this machine", Role.READ)
"""Who asks over loopback without a token, where ``operator.open_read`` permits it."""


def user_name(uid: int) -> str:
    """Return the name of a user, or its number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def local_user(name: str, *, through_socket: bool) -> Caller:
    """Return root or the service's user, who could change the database anyhow."""
    return Caller(f"socket user {name}" if through_socket else f"user {name}", Role.ADMIN)
