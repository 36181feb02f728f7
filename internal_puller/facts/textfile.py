"""How every certificate here stands, as numbers for the textfile collector of node-exporter.

Lean, as the quiet path of ``pull`` is: the text format is a few lines, and no library is loaded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from internal_puller.facts.standing import is_served
from internal_puller.install.active import Active, read_active
from internal_puller.outbox.look import Answer
from internal_puller.outbox.report import PullReport
from internal_puller.outbox.verdict import KEPT_ERRORS
from internal_puller.settings.targets import Target
from internal_puller.state.progress import LastError, Progress, Standing
from shared.contract.errors import ConfigurationError, RelayError
from shared.host.whole_file import replace_whole

_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
ABOUT = {
    "relay_puller_run_timestamp_seconds": "When this file was written, at the end of a pull.",
    "relay_puller_exit_code": "How that pull ended; 0 is well.",
    "relay_puller_contact_timestamp_seconds": "When the agent answered last; 0 for never.",
    "relay_puller_certificate_generation": "The generation in place; 0 for none.",
    "relay_puller_certificate_not_after_timestamp_seconds": "End of the certificate in place.",
    "relay_puller_certificate_served": "Whether the server shows the one in place everywhere; "
    "absent while that is not known.",
    "relay_puller_certificate_unserved_since_timestamp_seconds": "Since when the one in place was "
    "not seen to be served, and the verdict; absent where nothing stands against it.",
    "relay_puller_certificate_failing": "Whether the last attempt with this certificate failed.",
}


def write_metrics(
    path: Path, targets: Iterable[Target], progress: Progress, report: PullReport, now: float
) -> None:
    """Replace the file; a collector that reads meanwhile sees the old or the new one, whole.

    Args:
        path: ends in ``.prom``, or node-exporter does not read it.
        now: unix seconds.

    Raises:
        ConfigurationError: it cannot be written.
    """
    text = "".join(_lines(_samples(targets, progress, report, now)))
    try:
        replace_whole(path, text.encode(), mode=0o644)  # it is for another user
    except OSError as error:
        raise ConfigurationError(
            f"metrics_file {path} cannot be written: {error.strerror}.",
            do="Make the directory and let this user write there, or remove the setting.",
        ) from error


Sample = tuple[str, Mapping[str, str], float]


def _samples(
    targets: Iterable[Target], progress: Progress, report: PullReport, now: float
) -> Iterable[Sample]:
    yield "relay_puller_run_timestamp_seconds", {}, now
    yield "relay_puller_exit_code", {}, report.exit_code
    yield "relay_puller_contact_timestamp_seconds", {}, progress.last_contact
    failed = {one.certificate for one in report.outcomes if _failed(one.error)}
    for target in targets:
        known = progress.of(target.certificate)
        labels = {"certificate": target.certificate, "directory": str(target.directory)}
        try:
            active = read_active(target)
        except ConfigurationError:
            active = None
        failing = _failed(known.error) or target.certificate in failed
        yield "relay_puller_certificate_failing", labels, failing
        standing = progress.standing.get(str(target.directory))
        yield from _in_place(active, labels, known.served, standing)


def _failed(error: RelayError | LastError | None) -> bool:
    """What is in place, and not seen to be served, has not failed."""
    return error is not None and error.type not in KEPT_ERRORS


def _shown(seen: Iterable[str], leaf_sha256: str) -> bool | None:
    """As ``outbox.look.matches``, of what ``receipts.seen`` kept of the looks."""
    found = set(seen)
    if found - {leaf_sha256, Answer.NOT_KNOWN}:
        return False
    return True if found == {leaf_sha256} else None


def _in_place(
    active: Active | None,
    labels: Mapping[str, str],
    served: Mapping[str, str],
    standing: Standing | None,
) -> Iterable[Sample]:
    yield "relay_puller_certificate_generation", labels, active.generation if active else 0
    if active is None:
        return
    yield "relay_puller_certificate_not_after_timestamp_seconds", labels, active.not_after
    matches = is_served(_shown(served.values(), active.leaf_sha256), standing)
    if matches is not None:
        yield "relay_puller_certificate_served", labels, matches
    if standing is not None:
        name = "relay_puller_certificate_unserved_since_timestamp_seconds"
        yield name, {**labels, "verdict": standing.verdict}, standing.since


def _lines(samples: Iterable[Sample]) -> Iterable[str]:
    by_name: dict[str, list[str]] = {}
    for name, labels, value in samples:
        shown = ",".join(f'{key}="{text.translate(_ESCAPES)}"' for key, text in labels.items())
        line = f"{name}{{{shown}}} {float(value)}\n" if shown else f"{name} {float(value)}\n"
        by_name.setdefault(name, []).append(line)
    for name, lines in by_name.items():
        yield f"# HELP {name} {ABOUT[name]}\n# TYPE {name} gauge\n"
        yield from lines
