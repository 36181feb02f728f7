"""tests/run: makes the environment, runs the parts, says what ran and what could not."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from tools import environment
from tools.parts import INCOMPLETE, PARTS, Part, places
from tools.results import Result, read_junit, summary

NOTHING_COLLECTED = 5
MEMORY = Path("/dev/shm")
MEMORY_WANTED = 512 * 2**20  # octets
_running: set[subprocess.Popen[bytes]] = set()
_interrupted = threading.Event()


def main() -> int:
    """Return 0 when nothing failed; in CI (CI=true) what is missing or skipped is a failure."""
    options, for_pytest = _arguments()
    ci = os.environ.get("CI", "") not in ("", "0", "false")
    try:
        python = environment.ensure()
    except environment.EnvironmentFailed as failure:
        print(f"tests/run: {failure}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="tests-run-") as scratch:
        reports = Path(options.reports or scratch).absolute()
        reports.mkdir(parents=True, exist_ok=True)

        def judge(part: Part, output: TextIO | None = None) -> Result:
            command = _command(part, python, reports, for_pytest, quick=options.quick or ci)
            return _judge(part, command, reports, ci=ci, output=output)

        chosen = _chosen(options.parts)
        beside = [part for part in chosen if options.together and not part.alone]
        results = _two_at_a_time(beside, judge)
        for part in chosen:
            if part not in beside and not _interrupted.is_set():
                results.append(judge(part))
    results.sort(key=lambda result: [part.name for part in PARTS].index(result.name))
    print(summary(results), flush=True)
    return 1 if any(result.failed for result in results) else 0


def _arguments() -> tuple[argparse.Namespace, list[str]]:
    listing = "\n".join(f"  {part.name:<9} {part.about}" for part in PARTS)
    parser = argparse.ArgumentParser(
        prog="tests/run",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=f"Run parts of the tests; without a name, all but bench.\n\n{listing}\n"
        "  all       every one of them",
        epilog="What follows -- is given to pytest: tests/run unit -- -k generation -x",
    )
    names = [part.name for part in PARTS]
    parser.add_argument("parts", nargs="*", metavar="part", help="a name of the list above")
    parser.add_argument(
        "--together",
        action="store_true",
        help="two parts at a time, where that is harmless; what a part says is shown at its end",
    )
    parser.add_argument("--quick", action="store_true", help="bench: a short look")
    parser.add_argument("--reports", metavar="DIR", help="keep the JUnit files there")
    words = sys.argv[1:]
    for_pytest: list[str] = []
    if "--" in words:
        cut = words.index("--")
        words, for_pytest = words[:cut], words[cut + 1 :]
    options = parser.parse_args(words)
    for name in options.parts:
        if name not in (*names, "all"):
            parser.error(f"there is no part {name!r}; the parts are {', '.join(names)} and all")
    return options, for_pytest


def _chosen(names: list[str]) -> list[Part]:
    if "all" in names:
        return list(PARTS)
    return [part for part in PARTS if part.name in names or (not names and part.by_default)]


def _command(
    part: Part, python: Path, reports: Path, for_pytest: list[str], *, quick: bool
) -> list[str]:
    if part.mark:
        command = [str(python), "-m", "pytest", "-m", part.mark]
        command.append(f"--junit-xml={reports / part.name}.xml")
        if part.workers:
            command += ["-n", str(part.workers), "--dist", "loadfile" if part.by_file else "load"]
        if not any((environment.ROOT / word.partition("::")[0]).exists() for word in for_pytest):
            command += places(part, environment.ROOT)
        return command + for_pytest
    if part.command[0] != "-m":
        return [str(environment.ROOT / part.command[0]), *part.command[1:]]
    extra = ["--quick"] if quick and part.name == "bench" else []
    return [str(python), *part.command, *extra]


def _two_at_a_time(parts: list[Part], judge: Callable[[Part, TextIO], Result]) -> list[Result]:
    """Long ones first: while the tests of one part wait, those of another use the processors."""
    waiting = iter(sorted(parts, key=lambda part: -part.seconds))
    results = []
    showing = threading.Lock()

    def lane() -> None:
        for part in waiting:
            if _interrupted.is_set():
                return
            print(f"begun: {part.name}", flush=True)
            with tempfile.TemporaryFile("w+") as output:
                results.append(judge(part, output))
                output.seek(0)
                with showing:
                    shutil.copyfileobj(output, sys.stdout)
                    sys.stdout.flush()

    with ThreadPoolExecutor(2) as lanes:
        try:
            for done in [lanes.submit(lane), lanes.submit(lane)]:
                done.result()
        except KeyboardInterrupt:
            _interrupted.set()
            for process in list(_running):
                os.killpg(process.pid, signal.SIGINT)
    return results


def _judge(
    part: Part, command: list[str], reports: Path, *, ci: bool, output: TextIO | None = None
) -> Result:
    """Run one part, if the machine can, and turn what happened into a result."""
    lacking = part.missing()
    result = Result(part.name, missing=[need.name for need in lacking])
    if part.pointless(lacking):
        result.ran = False
        result.why = "this machine lacks what it needs"
    else:
        print(f"\n{'#' * 10} {part.name}: {part.about}", file=output, flush=True)
        started = time.monotonic()
        with _temporary_files(part, beside_others=output is not None) as options:
            code = _run([*command, *options], part.seconds, result, output)
        result.seconds = time.monotonic() - started
        _count(part, code, reports / f"{part.name}.xml", result)
    if ci and not result.failed and (lacking or result.skips or not result.ran):
        result.failed = 1
        strict = "in CI everything must be there and nothing may be skipped"
        result.why = f"{result.why}; {strict}" if result.why else strict
    return result


def _count(part: Part, code: int, report: Path, result: Result) -> None:
    if part.mark and report.exists():
        read_junit(report, result)
    elif code == 0:
        result.passed = 1
    elif code == INCOMPLETE and part.incomplete:
        result.passed, code = 1, 0
        result.notes.append(part.incomplete)
    if part.mark and code == NOTHING_COLLECTED and not result.why:
        result.ran = False
        result.why = "no test belongs to it"
    elif code and not result.failed:
        result.failed = 1
        result.why = result.why or f"ended with status {code}"


@contextmanager
def _temporary_files(part: Part, *, beside_others: bool) -> Iterator[list[str]]:
    """Yield the option that tells pytest where its directories go, when that is not its default.

    The stores are durable, so every test of them waits for the disk several times. And each pytest
    closes the directory of all of them to other accounts when it starts, also while the servers of
    another one read there. The paths are short, because of the sockets below them.
    """
    in_memory = part.in_memory and _memory_will_do()
    if not part.mark or not (in_memory or beside_others):
        yield []
        return
    place = Path(tempfile.mkdtemp(prefix="t", dir=MEMORY if in_memory else None))
    place.chmod(0o711)
    try:
        yield [f"--basetemp={place / 'b'}"]
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _memory_will_do() -> bool:
    """Large enough, and programs in it may be run: some tests write hooks."""
    try:
        status = os.statvfs(MEMORY)
    except OSError:
        return False
    room = status.f_bavail * status.f_frsize
    return room >= MEMORY_WANTED and not status.f_flag & os.ST_NOEXEC and os.access(MEMORY, os.W_OK)


def _run(
    command: list[str],
    seconds: int,
    result: Result,
    output: TextIO | None,
) -> int:
    """Run in a process group of its own, so that nothing of it is left behind; return its code."""
    process = subprocess.Popen(
        command,
        cwd=environment.ROOT,
        env=environment.variables(),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=None if output is None else subprocess.STDOUT,
        start_new_session=True,
    )
    _running.add(process)
    try:
        code = process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        result.why = f"was not done after {seconds} s"
        return 1
    except KeyboardInterrupt:
        _interrupted.set()
        os.killpg(process.pid, signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=15)
        code = 1
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        _running.discard(process)
    if _interrupted.is_set():
        result.why = "interrupted"
    return code


if __name__ == "__main__":
    sys.exit(main())
