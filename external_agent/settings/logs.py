"""Structured logs in which no secret can stand: secrets are recognised by type and by shape."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, TextIO

import structlog
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from shared.contract import plain_text
from shared.contract.enrolment_token import EnrolmentToken
from shared.contract.sealing import Identity
from shared.contract.signing import SigningKey

REDACTED = "[redacted]"
_SECRET_TYPES = (
    SigningKey,
    Identity,
    EnrolmentToken,
    ec.EllipticCurvePrivateKey,
    rsa.RSAPrivateKey,
    bytes,
    bytearray,
    memoryview,
)
# An enrolment token; a PEM private key, whole or cut.
_SECRET_TEXT = re.compile(
    r"shr1_[A-Za-z0-9_-]+"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----(?:.*?-----END [A-Z ]*PRIVATE KEY-----|.*)",
    re.DOTALL,
)
_MAX_DEPTH = 8
_LONG = ("exception", "stack")


def redact(value: object, depth: int = 0) -> object:
    """Return ``value`` without secrets: keys, tokens and raw octets never pass."""
    if isinstance(value, _SECRET_TYPES) or depth > _MAX_DEPTH:
        return REDACTED
    if isinstance(value, str):
        return plain_text.lines(_SECRET_TEXT.sub(REDACTED, value))
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, Mapping):
        return {redact(str(key)): redact(inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [redact(inner, depth + 1) for inner in value]
    return redact(str(value), depth + 1)


def redact_event(
    logger: object, method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """The last processor before rendering (structlog's signature)."""
    return {key: redact(value) for key, value in event.items()}


def _flat(logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Without JSON's escapes no text may begin a line of its own, but for a traceback's."""
    return {
        key: plain_text.one_line(value) if isinstance(value, str) and key not in _LONG else value
        for key, value in event.items()
    }


def configure(level: str, form: str, stream: TextIO | None = None) -> None:
    """Set up structlog and the standard library's logging, which libraries use.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``.
        form: ``json``, ``console``, or ``auto``: console on a terminal, else JSON.
        stream: standard error by default.
    """
    out = stream or sys.stderr
    console = form == "console" or (form == "auto" and out.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        redact_event,
    ]
    renderers: list[Any] = (
        [_flat, structlog.dev.ConsoleRenderer(colors=out.isatty())]
        if console
        else [structlog.processors.JSONRenderer()]
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    set_level(level)


def set_level(level: str) -> None:
    """Change the level of a running process."""
    logging.getLogger().setLevel(level.upper())
    # Libraries that narrate every request: their debug output repeats whole messages.
    for name in ("urllib3", "asyncio", "acme"):
        logging.getLogger(name).setLevel(max(logging.INFO, logging.getLogger().level))
    # uvicorn tells of starting and stopping, which the agent does itself, once; and it warns of
    # each request that is not HTTP, as often as a stranger sends one.
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
