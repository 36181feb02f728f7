"""dns-persist-01 in words: what both sides' commands read, print and hand to programs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, time

from shared.acme.dns_persist import moment
from shared.acme.dns_persist_use import DAY, NameReport, RecordAdvice
from shared.contract.errors import ConfigurationError


def parse_until(text: str) -> int:
    """Return unix seconds of ``2027-06-30`` (its end, UTC), a whole RFC 3339 time, or a number.

    Raises:
        ConfigurationError: none of these.
    """
    if text.isascii() and text.isdigit() and len(text) <= 12:
        return int(text)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(
            f"{text!r:.40} is no date: write 2027-06-30, or 2027-06-30T12:00:00Z."
        ) from None
    if len(text) <= len("2027-06-30"):
        found = datetime.combine(found.date(), time(23, 59, 59), UTC)
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    return int(found.timestamp())


def explain_records(records: Sequence[RecordAdvice], account_url: str) -> list[str]:
    """Return what to know beside the lines themselves."""
    lines = [
        f"The CA confirmed the account {account_url}.",
        "Put this into the public zone of each name; nothing here writes it:",
    ]
    if len({one.draft for one in records}) > 1:
        lines.append(
            "This CA moves from draft -01 to -02: both records may stand beside each other."
        )
    if any(len(one.text) > 255 for one in records):
        lines.append(
            "A text over 255 octets is split into strings of one record; a form that asks for the "
            "text alone may want it without quotation marks, and splits it itself."
        )
    if all(one.until is None for one in records):
        lines.append(
            "Without an end, whoever gets the account key can get certificates for ever: consider "
            "--until DATE."
        )
    lines.append(
        "To end it at once deactivate the account: authorizations that stand outlive the record."
    )
    return lines


def explain_reports(reports: Sequence[NameReport], now: float) -> list[str]:
    """Return one line for each name, and one for each of its servers."""
    lines = []
    for one in reports:
        lines.append(f"{one.name}: {one.verdict}: {one.words}{ending(one.until, now)}")
        lines += [f"  {server}: {found}" for server, found in one.servers]
    return lines


def ending(until: int | None, now: float) -> str:
    """Return when a record ends, as the end of a sentence; empty if it does not."""
    if until is None:
        return ""
    if until < now:
        return f"; it ended {moment(until)}"
    days = int((until - now) // DAY)
    return f"; it ends {moment(until)}, in {days} d"
