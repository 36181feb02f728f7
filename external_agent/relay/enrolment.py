"""Enrolment: tokens made for operators, and redeemed by pullers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from external_agent.relay.authentication import Caller
from external_agent.settings import keys
from external_agent.settings.config import Settings
from external_agent.store.interface import EnrolmentStore
from shared.contract.enrolment_token import DEFAULT_LIFETIME, MAX_LIFETIME, EnrolmentToken
from shared.contract.errors import ConfigurationError, KeysRefused, MalformedMessage
from shared.contract.sealing import Recipient
from shared.contract.signing import SigningKey, VerifyKey
from shared.contract.wire import EnrolmentAnswer

MIN_LIFETIME = 60


@dataclass(frozen=True, slots=True)
class TokenMaker:
    """What every token of this agent carries.

    Attributes:
        tls_pin: hex SPKI digest of the relay certificate; ``None`` for an ordinary check.
    """

    relay_url: str
    agent: VerifyKey
    tls_pin: str | None

    def make(
        self,
        store: EnrolmentStore,
        certificates: Sequence[str],
        *,
        now: int,
        lifetime: int = DEFAULT_LIFETIME,
        actor: str = "operator",
    ) -> EnrolmentToken:
        """Return a new one-time token; the store gets its public half only.

        Args:
            lifetime: seconds, a minute to a day.

        Raises:
            ConfigurationError: another lifetime.
            PolicyError: a certificate is unknown.
        """
        self.check_lifetime(lifetime)
        key = SigningKey.generate()
        row = store.create_token(
            key.public.public, certificates, now=now, expires_at=now + lifetime, actor=actor
        )
        return EnrolmentToken(self.relay_url, self.agent, key.seed(), self.tls_pin, row.expires_at)

    @staticmethod
    def check_lifetime(lifetime: int) -> None:
        """
        Raises:
            ConfigurationError: under a minute or over a day.
        """
        if not MIN_LIFETIME <= lifetime <= MAX_LIFETIME:
            raise ConfigurationError(
                f"A token lives {MIN_LIFETIME} s to {MAX_LIFETIME // 3600} h, not {lifetime} s."
            )


def token_maker(settings: Settings, agent: keys.AgentKeys) -> TokenMaker:
    """Return what makes tokens of this agent.

    Raises:
        ConfigurationError, LooseFileMode: the relay's TLS key, which tokens pin, is missing.
    """
    return TokenMaker(settings.relay.url, agent.signing.public, keys.token_pin(settings))


def redeem(store: EnrolmentStore, caller: Caller, now: int) -> EnrolmentAnswer:
    """Enrol a caller both of whose signatures were verified.

    Raises:
        MalformedMessage: a host name that could steer an operator's terminal.
        KeysRefused: nothing can be sealed to the key, one key in two roles, or known already.
        TokenExpired, TokenUsed, RequestRefused: see ``EnrolmentStore.redeem_token``.
    """
    offer = caller.enrolment
    assert offer is not None
    if not offer.host.isprintable() or not offer.host:
        raise MalformedMessage("The host name holds something else than printable characters.")
    if caller.puller == caller.token:
        raise KeysRefused("The token's key cannot be the puller's signing key.")
    recipient = Recipient(offer.sealing_key)
    if recipient.id in (caller.puller, caller.token):
        raise KeysRefused("Signing and sealing need two keys.")
    return store.redeem_token(
        caller.token,
        signing_key=offer.signing_key,
        sealing_key=offer.sealing_key,
        host=offer.host,
        nonce=caller.nonce,
        now=now,
    )
