"""What is said to a CA to open an account (RFC 8555 sections 7.3, 7.3.1, 7.3.4)."""

from __future__ import annotations

from collections.abc import Sequence

from acme import messages
from josepy.jwk import JWK

from shared.acme.directories import binding_hint
from shared.acme.ports import DirectoryInfo, ExternalAccountBinding
from shared.acme.problems import plain_text, problem_code
from shared.contract.errors import CaNotConfigured, IssuanceRejected


def new_account(
    directory: DirectoryInfo,
    account_jwk: JWK,
    contact: Sequence[str],
    terms_agreed: bool,
    eab: ExternalAccountBinding | None,
) -> dict[str, object]:
    """Return the payload of newAccount.

    Args:
        contact: URLs such as ``mailto:ops@example.com``.

    Raises:
        CaNotConfigured: terms not agreed to, or an account binding is missing or unusable.
    """
    if directory.terms_of_service and not terms_agreed:
        raise CaNotConfigured(
            f"The CA's terms of service were not agreed to: {directory.terms_of_service}",
            do="Read them, then say so in the settings: terms_agreed = true.",
        )
    if directory.external_account_required and eab is None:
        raise CaNotConfigured(
            f"The CA of {directory.url} wants an external account binding, and its settings have "
            "none.",
            do=binding_hint(directory.url),
        )
    payload: dict[str, object] = {"termsOfServiceAgreed": terms_agreed}
    if contact:
        payload["contact"] = list(contact)
    if eab is not None:
        payload["externalAccountBinding"] = _bind(directory, account_jwk, eab)
    return payload


def _bind(
    directory: DirectoryInfo, account_jwk: JWK, eab: ExternalAccountBinding
) -> dict[str, object]:
    library_directory = messages.Directory({"newAccount": directory.new_account})
    try:
        return messages.ExternalAccountBinding.from_data(
            account_jwk.public_key(), eab.kid, eab.hmac_key, library_directory, eab.algorithm
        )
    except (ValueError, TypeError) as error:
        raise CaNotConfigured(
            f"The external account binding {plain_text(eab.kid)!r} has an HMAC key that is not "
            "base64url, or an algorithm that is none of HS256, HS384, HS512."
        ) from error


def explain_refused_binding(
    error: IssuanceRejected, url: str, eab: ExternalAccountBinding | None
) -> IssuanceRejected:
    """Return a refusal of newAccount in words: with a binding sent, it mostly is about that.

    Args:
        url: of the CA's directory.
        eab: what was sent.
    """
    asked_for = problem_code(error.problem) == "externalAccountRequired"
    if eab is None and not asked_for:
        return error
    what = (
        f"The CA of {url} opens no account without an external account binding"
        if eab is None
        else f"The CA of {url} did not take the external account binding {plain_text(eab.kid)!r}"
    )
    return IssuanceRejected(
        f"{what}. {error.what}",
        do=binding_hint(url),
        retry_after=error.retry_after,
        problem=error.problem,
    )
