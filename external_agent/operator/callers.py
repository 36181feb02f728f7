"""Who asks, and what they may: a bearer of an access token, a user of this machine, anybody."""

from __future__ import annotations

from dataclasses import dataclass

from external_agent.domain.access import Role


@dataclass(frozen=True, slots=True)
class Caller:
    """
    Attributes:
        actor: how the audit trail calls them.
        expires_at: end of their access, unix seconds; ``None`` for none.
    """

    actor: str
    role: Role
    expires_at: int | None = None


ANYBODY = Caller("anybody on this machine", Role.READ)
"""Who asks over loopback without a token, where ``operator.open_read`` permits it."""


def local_user(name: str, *, through_socket: bool) -> Caller:
    """Return root or the service's user, who could change the database anyhow."""
    return Caller(f"socket user {name}" if through_socket else f"user {name}", Role.ADMIN)
