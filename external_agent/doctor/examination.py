"""Runs the checks side by side under one deadline; one that fails or hangs says so and no more."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import TypeVar

from shared.contract.diagnosis import Finding, NameSeen, Verdict
from shared.contract.errors import RelayError

SECONDS = 22.0
"""For all of them; a puller that asks waits 30 s for its answer."""
_THREADS = 12

T = TypeVar("T")
Found = Finding | NameSeen
Check = Callable[[], Iterable[Found]]


def examine(checks: Sequence[tuple[str, str, Check]], *, seconds: float = SECONDS) -> list[Found]:
    """Return what the checks found, in their order; a check has no other way to say anything.

    Args:
        checks: name, subject, and what is called; it may block and raise RelayError.
    """
    todo: SimpleQueue[tuple[Future[list[Found]], Check]] = SimpleQueue()
    futures = [Future[list[Found]]() for _ in checks]
    for future, (_, _, check) in zip(futures, checks, strict=True):
        todo.put((future, check))
    for _ in checks[:_THREADS]:
        threading.Thread(target=_work_off, args=(todo,), name="doctor", daemon=True).start()
    wait(futures, timeout=seconds)
    for future in futures:
        future.cancel()
    return [
        finding
        for (name, subject, _), future in zip(checks, futures, strict=True)
        for finding in _outcome(name, subject, future, seconds)
    ]


def _found(check: Check) -> list[Found]:
    return list(check())


def _work_off(todo: SimpleQueue[tuple[Future[list[Found]], Check]]) -> None:
    with suppress(Empty):
        while True:
            future, check = todo.get_nowait()
            _settle(future, partial(_found, check))


def _outcome(name: str, subject: str, future: Future[list[Found]], seconds: float) -> list[Found]:
    if not future.done() or future.cancelled():
        what = f"This check did not end within {seconds:.0f} s."
        return [Finding(name, Verdict.UNKNOWN, subject, what)]
    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, RelayError):
        return [Finding(name, Verdict.UNKNOWN, subject, error.what, error.do)]
    what = f"This check could not be made: {type(error).__name__}: {error!s:.200}"
    return [Finding(name, Verdict.UNKNOWN, subject, what, "Please report it: it is our fault.")]


def in_a_thread(function: Callable[[], T]) -> Future[T]:
    """Call it in a thread that keeps no process from ending; those of an executor do."""
    future: Future[T] = Future()
    work = partial(_settle, future, function)
    threading.Thread(target=work, name="doctor", daemon=True).start()
    return future


def _settle(future: Future[T], function: Callable[[], T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = function()
    except BaseException as error:  # whoever waits is told
        future.set_exception(error)
    else:
        future.set_result(result)
