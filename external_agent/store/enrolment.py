"""Queries over enrolment tokens: made, voided, and redeemed by exactly one pair of keys."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, insert, or_, select, update

from external_agent.facts import quotas
from external_agent.facts.audit import canonical
from external_agent.facts.policy import require_ordinary
from external_agent.records.model import PullerStatus
from external_agent.records.rows import TokenRow
from external_agent.store.admission import use_nonce
from external_agent.store.pullers import (
    add_grants,
    granted,
    refuse_second_recipient,
    sealed_generations,
    set_status,
)
from external_agent.store.queries import (
    Queries,
    append_event,
    require_certificate,
    token_row,
)
from external_agent.store.tables import certificates, pullers, tokens
from shared.contract.enrolment_token import MAX_LIFETIME
from shared.contract.errors import (
    ConfigurationError,
    EnrolmentError,
    KeysRefused,
    PolicyError,
    TokenExpired,
    TokenUnknown,
    TokenUsed,
)
from shared.contract.signing import key_id
from shared.contract.wire import EnrolmentAnswer, Grant


class EnrolmentQueries(Queries):
    """``EnrolmentStore``, its part about tokens."""

    def create_token(
        self,
        public_key: bytes,
        certificates: Sequence[str],
        *,
        now: int,
        expires_at: int,
        actor: str = "operator",
    ) -> TokenRow:
        if not now < expires_at <= now + MAX_LIFETIME:
            raise ConfigurationError("An enrolment token lives at most 24 hours.")
        if not certificates:
            raise PolicyError("An enrolment token grants at least one certificate.")
        wanted = sorted(set(certificates))
        token = key_id(public_key)
        with self._database.write() as connection:
            for certificate in wanted:
                require_ordinary(certificate)
                require_certificate(connection, certificate)
                refuse_second_recipient(connection, certificate, None)
            connection.execute(
                insert(tokens).values(
                    id=token,
                    public_key=public_key,
                    certificates=canonical(wanted),
                    created_at=now,
                    expires_at=expires_at,
                )
            )
            append_event(
                connection,
                "token-created",
                now=now,
                actor=actor,
                details={"token": token, "certificates": wanted, "expires_at": expires_at},
            )
            return token_row(_token(connection, token))

    def void_token(self, token_id: str, *, now: int, actor: str = "operator") -> None:
        with self._database.write() as connection:
            row = _token(connection, token_id)
            if row.voided_at is not None:
                return
            connection.execute(update(tokens).where(tokens.c.id == token_id).values(voided_at=now))
            append_event(
                connection, "token-voided", now=now, actor=actor, details={"token": token_id}
            )

    def tokens(self) -> list[TokenRow]:
        query = select(tokens).order_by(tokens.c.created_at, tokens.c.id)
        with self._database.read() as connection:
            return [token_row(row) for row in connection.execute(query)]

    def token(self, token_id: str) -> TokenRow | None:
        with self._database.read() as connection:
            row = connection.execute(select(tokens).where(tokens.c.id == token_id)).one_or_none()
            return None if row is None else token_row(row)

    def redeem_token(
        self,
        token_id: str,
        *,
        signing_key: bytes,
        sealing_key: bytes,
        host: str,
        nonce: str,
        now: int,
    ) -> EnrolmentAnswer:
        keys = _Keys(signing_key, sealing_key, host)
        with self._database.write() as connection:
            use_nonce(connection, token_id, nonce, most=quotas.REDEMPTIONS, now=now)
            outcome = _redeem(connection, token_id, keys, now)
        if isinstance(outcome, EnrolmentError):
            raise outcome
        return outcome


class _Keys:
    """The keys of one request for enrolment."""

    def __init__(self, signing_key: bytes, sealing_key: bytes, host: str) -> None:
        self.puller, self.signing_key = key_id(signing_key), signing_key
        self.sealing_id, self.sealing_key = key_id(sealing_key), sealing_key
        self.host = host


def _redeem(
    connection: Connection, token_id: str, keys: _Keys, now: int
) -> EnrolmentAnswer | EnrolmentError:
    """Return an error rather than raise it: a second redeemer's traces are to be committed."""
    token = _token(connection, token_id)
    if token.redeemed_by is not None:
        return _redeemed_before(connection, token, keys, now)
    refused = _refuse_keys(connection, keys) or _refuse_grants(connection, token, keys)
    if refused is not None:
        return refused
    won = connection.execute(
        update(tokens)
        .where(
            tokens.c.id == token_id,
            tokens.c.redeemed_by.is_(None),
            tokens.c.voided_at.is_(None),
            tokens.c.expires_at >= now,
        )
        .values(redeemed_at=now, redeemed_by=keys.puller)
    )
    if won.rowcount != 1:
        return _why_not(token, now)
    _enrol(connection, token, keys, now)
    return _answer(connection, keys.puller)


def _why_not(token: Row[Any], now: int) -> EnrolmentError:
    if token.voided_at is not None:
        return TokenExpired("The enrolment token was voided by an operator.")
    if token.expires_at < now:
        return TokenExpired("The enrolment token has expired.")
    return TokenUsed("The enrolment token was used already.")


def _redeemed_before(
    connection: Connection, token: Row[Any], keys: _Keys, now: int
) -> EnrolmentAnswer | EnrolmentError:
    first = connection.execute(select(pullers).where(pullers.c.id == token.redeemed_by)).one()
    if first.id == keys.puller and first.sealing_id == keys.sealing_id:
        if first.status == PullerStatus.REVOKED:
            return KeysRefused("The puller with these keys was revoked.")
        return _answer(connection, first.id)
    if first.status == PullerStatus.ACTIVE and token.voided_at is None:
        set_status(connection, first.id, PullerStatus.SUSPENDED)
        append_event(
            connection,
            "token-offered-twice",
            now=now,
            actor="relay",
            puller=first.id,
            details={
                "token": token.id,
                "second_host": keys.host,
                "second_puller": keys.puller,
                "sealed_to_first": sealed_generations(connection, first.id),
            },
        )
    return TokenUsed("The enrolment token was used by another machine's keys.")


def _refuse_keys(connection: Connection, keys: _Keys) -> KeysRefused | None:
    """Keys are new, or both those of one puller that was not revoked."""
    found = connection.execute(
        select(pullers).where(
            or_(pullers.c.id == keys.puller, pullers.c.sealing_id == keys.sealing_id)
        )
    ).all()
    for row in found:
        if row.id != keys.puller or row.sealing_id != keys.sealing_id:
            return KeysRefused("One of the offered keys belongs to another puller.")
        if row.status == PullerStatus.REVOKED:
            return KeysRefused("The puller with these keys was revoked.")
    return None


def _refuse_grants(connection: Connection, token: Row[Any], keys: _Keys) -> KeysRefused | None:
    try:
        for certificate in json.loads(token.certificates):
            refuse_second_recipient(connection, certificate, keys.puller)
    except PolicyError as error:
        return KeysRefused(error.what, do=error.do)
    return None


def _enrol(connection: Connection, token: Row[Any], keys: _Keys, now: int) -> None:
    known = connection.execute(select(pullers.c.id).where(pullers.c.id == keys.puller)).first()
    if known is None:
        connection.execute(
            insert(pullers).values(
                id=keys.puller,
                signing_key=keys.signing_key,
                sealing_id=keys.sealing_id,
                sealing_key=keys.sealing_key,
                host=keys.host,
                status=str(PullerStatus.ACTIVE),
                enrolled_at=now,
                token_id=token.id,
            )
        )
        append_event(
            connection,
            "puller-enrolled",
            now=now,
            actor="relay",
            puller=keys.puller,
            details={"host": keys.host, "token": token.id},
        )
    still_there = set(
        connection.execute(
            select(certificates.c.id).where(certificates.c.removed_at.is_(None))
        ).scalars()
    )
    wanted = [name for name in json.loads(token.certificates) if name in still_there]
    add_grants(connection, keys.puller, wanted, now=now, actor="relay")


def _answer(connection: Connection, puller: str) -> EnrolmentAnswer:
    held = granted(connection, puller)
    names = {
        row.id: tuple(json.loads(row.names))
        for row in connection.execute(
            select(certificates.c.id, certificates.c.names).where(certificates.c.id.in_(held))
        )
    }
    return EnrolmentAnswer(puller, tuple(Grant(one, names[one]) for one in held))


def _token(connection: Connection, token_id: str) -> Row[Any]:
    row = connection.execute(select(tokens).where(tokens.c.id == token_id)).one_or_none()
    if row is None:
        raise TokenUnknown("The enrolment token is not known here.")
    return row
