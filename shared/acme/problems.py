"""A CA's refusal turned into our error tree, with its problem document in words (RFC 8555 6.7)."""

from __future__ import annotations

from collections.abc import Mapping

from shared.contract.errors import (
    IssuanceError,
    IssuanceRateLimited,
    IssuanceRejected,
    IssuanceUnavailable,
)
from shared.contract.plain_text import one_line

ACME_ERROR = "urn:ietf:params:acme:error:"
_LONGEST_TEXT = 500
_MOST_SUBPROBLEMS = 20
_TRANSIENT_STATUSES = frozenset((408, 425))
_TRANSIENT_TYPES = frozenset(("badNonce", "serverInternal"))


def plain_text(value: object) -> str:
    """Return what a CA wrote as one printable line of at most 500 characters."""
    text = value if isinstance(value, str) else ""
    return " ".join(one_line(text[: 2 * _LONGEST_TEXT]).split())[:_LONGEST_TEXT]


def read_problem(document: object, status: int | None = None) -> dict[str, object]:
    """Return the known members of a problem document, cut to size and printable.

    Args:
        document: decoded JSON of any shape.
        status: the HTTP status it came with; it wins over the document's own.
    """
    source: Mapping[str, object] = document if isinstance(document, dict) else {}
    problem: dict[str, object] = {
        name: text for name in ("type", "title", "detail") if (text := plain_text(source.get(name)))
    }
    own_status = source.get("status")
    if status is not None:
        problem["status"] = status
    elif isinstance(own_status, int):
        problem["status"] = own_status
    identifier = source.get("identifier")
    if isinstance(identifier, dict) and (value := plain_text(identifier.get("value"))):
        problem["identifier"] = value
    subproblems = source.get("subproblems")
    if isinstance(subproblems, list) and subproblems:
        listed = [one for one in subproblems if isinstance(one, dict)][:_MOST_SUBPROBLEMS]
        problem["subproblems"] = [read_problem({**one, "subproblems": None}) for one in listed]
    return problem


def problem_code(problem: Mapping[str, object] | None) -> str:
    """Return the error's short name, such as ``rateLimited``; empty if it is no ACME error."""
    kind = (problem or {}).get("type")
    if isinstance(kind, str) and kind.startswith(ACME_ERROR):
        return kind.removeprefix(ACME_ERROR)
    return ""


def describe(problem: Mapping[str, object] | None) -> str:
    """Return the problem and its subproblems as words for an operator."""
    if not problem:
        return "no reason given"
    parts = [problem_code(problem) or str(problem.get("type", ""))]
    parts.append(str(problem.get("detail") or problem.get("title") or ""))
    words = ": ".join(part for part in parts if part)
    if not words:
        words = f"HTTP status {problem['status']}" if "status" in problem else "no reason given"
    if "identifier" in problem:
        words = f"{problem['identifier']}: {words}"
    subproblems = problem.get("subproblems")
    if isinstance(subproblems, list):
        words += "".join(f"; {describe(one)}" for one in subproblems)
    return words


def refusal(
    what: str, problem: dict[str, object], retry_after: float | None = None
) -> IssuanceError:
    """Return the error of the class that says what to do about it.

    Args:
        what: the start of the sentence, up to the colon.
        problem: as :func:`read_problem` returns it, with the HTTP status.
        retry_after: seconds.
    """
    status, code = problem.get("status"), problem_code(problem)
    message = f"{what}: {describe(problem)}."
    if status == 429 or code == "rateLimited":
        return IssuanceRateLimited(message, retry_after=retry_after, problem=problem)
    transient = status in _TRANSIENT_STATUSES or code in _TRANSIENT_TYPES
    if transient or not isinstance(status, int) or not 400 <= status < 500:
        return IssuanceUnavailable(message, retry_after=retry_after, problem=problem)
    if code == "accountDoesNotExist":
        return IssuanceRejected(
            message,
            do="The CA has no such account (any more): check the directory URL and the account "
            "key, then register again.",
            retry_after=retry_after,
            problem=problem,
        )
    return IssuanceRejected(message, retry_after=retry_after, problem=problem)
