"""The end of every pull: what stands, what expires, who is told; lean."""

from __future__ import annotations

from internal_puller.facts.expiry import warn_of_expiry
from internal_puller.pull.pauses import moments
from internal_puller.pull.standing import note_standing
from internal_puller.pull.turn import Turn
from shared.contract.errors import ConfigurationError
from shared.contract.wire import clamp_come_back


def conclude(turn: Turn) -> None:
    """Complete the report, and write it where others read it."""
    direct, report, now = turn.direct, turn.report, turn.clock()
    if direct is not None:
        direct.note_troubles(report)
        direct.warn_of_records(report)
        if turn.agent is None:
            again = [int(one - now) for one in moments(turn.progress, turn.targets)]
            report.come_back = clamp_come_back(min([direct.come_back(), *again]))
    note_standing(turn)
    warn_of_expiry(
        turn.targets,
        turn.progress,
        report,
        now=now,
        share=turn.settings.warn_below,
        reasons=direct.reasons() if direct else {},
    )
    _write_metrics(turn)
    raise_alarm(turn)


def _write_metrics(turn: Turn) -> None:
    """A collector's file that cannot be written is a warning: certificates come first."""
    path = turn.settings.metrics_file
    if path is None:
        return
    from internal_puller.facts.textfile import write_metrics

    try:
        write_metrics(path, turn.targets, turn.progress, turn.report, turn.clock())
    except ConfigurationError as error:
        turn.report.warnings.append(f"{error.what} {error.do}")


def raise_alarm(turn: Turn) -> None:
    """Tell whoever gets alarms what is new or over; what could not be told is a warning."""
    settings = turn.settings
    if not (settings.alarm_command or settings.alarm_mail):
        return
    from internal_puller.facts import alarm

    here = [target.certificate for target in turn.targets]
    try:
        alarm.raise_alarm(settings, here, turn.progress, turn.report, turn.clock())
    except ConfigurationError as error:
        turn.report.warnings.append(f"{error.what} {error.do}")
