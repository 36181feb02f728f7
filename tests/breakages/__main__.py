"""python -m tests.breakages: takes one check out after another; the named tests have to notice."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from pathlib import Path
from queue import SimpleQueue

from tests.breakages.copy import Copy
from tests.breakages.every import BREAKAGES, WITHOUT_CODE, sample
from tests.breakages.model import Breakage
from tests.breakages.trial import Sound, Verdict, Word, attempt
from tools import environment


def main() -> int:
    """Return 0 when the tests noticed every breakage that was tried."""
    options = _arguments()
    chosen = _chosen(options)
    if options.list:
        for breakage in chosen:
            print(f"{breakage.promise:>2}  {breakage.name}")
        return 0
    _run_by_the_locked_packages()
    unnoticed = 0
    for breakage, verdict, seconds in _tried(chosen, options.jobs):
        print(
            f"{verdict.word:<8} {breakage.promise:>2}  {breakage.name:<58} {seconds:5.1f} s",
            flush=True,
        )
        if verdict.word is not Word.KILLED:
            unnoticed += 1
            print(_indented(f"{breakage.file}: {verdict.by}".rstrip(": ")), flush=True)
        elif options.verbose:
            print(_indented(verdict.by), flush=True)
    print(f"{len(chosen)} breakages, {unnoticed} survived")
    return 1 if unnoticed else 0


def _run_by_the_locked_packages() -> None:
    """Begin again with the Python of the tests' environment, if this is another."""
    python = environment.ensure()
    if Path(sys.prefix) != environment.TESTS.directory:
        os.execv(python, [str(python), "-m", "tests.breakages", *sys.argv[1:]])


def _indented(text: str) -> str:
    indent = " " * 9
    return textwrap.fill(
        text, 80, initial_indent=indent, subsequent_indent=indent, break_long_words=False
    )


def _arguments() -> argparse.Namespace:
    absent = "".join(f"\n  {number:>2}  {why}" for number, why in WITHOUT_CODE.items())
    parser = argparse.ArgumentParser(
        prog="python -m tests.breakages",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Take one check at a time out of a copy of the product, and run the tests\n"
        "that docs/security.md names for the promise: one of them has to fail. What\n"
        "cannot be tried (its text is gone, no test could run) counts as survived.",
        epilog=f"promises that no code of ours keeps:{absent}" if absent else None,
    )
    parser.add_argument("--list", action="store_true", help="print the breakages, one per line")
    parser.add_argument("--promise", type=int, action="append", metavar="N", help="of this promise")
    parser.add_argument("--name", metavar="WORDS", help="whose names contain these words")
    parser.add_argument("--sample", action="store_true", help="some that unit tests notice")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="at a time (2)")
    parser.add_argument("--verbose", action="store_true", help="say which test noticed")
    return parser.parse_args()


def _chosen(options: argparse.Namespace) -> list[Breakage]:
    """Return what the options leave. Ends the program if that is nothing."""
    found = [
        one
        for one in (sample() if options.sample else BREAKAGES)
        if (options.promise is None or one.promise in options.promise)
        and (options.name is None or options.name in one.name)
    ]
    if not found:
        sys.exit("No breakage fits these options; see python -m tests.breakages --list.")
    return found


def _tried(breakages: Sequence[Breakage], jobs: int) -> Iterator[tuple[Breakage, Verdict, float]]:
    """Yield each breakage, what became of it, and the seconds that took; as they come."""
    sound = Sound()
    free: SimpleQueue[Copy] = SimpleQueue()
    copies: list[Copy] = []
    with ExitStack() as stack:
        for _ in range(max(1, min(jobs, len(breakages)))):
            place = stack.enter_context(tempfile.TemporaryDirectory(prefix="brk"))
            copies.append(Copy(Path(place)))
            free.put(copies[-1])

        def lane(breakage: Breakage) -> tuple[Breakage, Verdict, float]:
            copy = free.get()
            began = time.monotonic()
            try:
                return breakage, attempt(breakage, copy, sound), time.monotonic() - began
            finally:
                free.put(copy)

        lanes = ThreadPoolExecutor(free.qsize())
        try:
            for done in as_completed([lanes.submit(lane, one) for one in breakages]):
                yield done.result()
        finally:  # interrupted, nothing more is begun and nothing goes on
            lanes.shutdown(wait=False, cancel_futures=True)
            for copy in copies:
                copy.end()
            lanes.shutdown()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
