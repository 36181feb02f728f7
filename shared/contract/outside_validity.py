"""A TLS certificate that is refused for the time of day alone: the clock is wrong, or it is."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

_NOT_NOW = {9: "is not yet valid", 10: "has expired"}
"""Of OpenSSL's X509_V_ERR_CERT_*: those that only the time of day decides."""


def untimely(error: BaseException) -> str:
    """Return what a peer's certificate is by our clock, if it was refused for that; else ""."""
    return next(
        (
            _NOT_NOW[cause.verify_code]
            for cause in causes(error)
            if isinstance(cause, ssl.SSLCertVerificationError) and cause.verify_code in _NOT_NOW
        ),
        "",
    )


def causes(error: BaseException) -> Iterator[BaseException]:
    """Give an error and what led to it, the innermost last."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
