"""Run in the place of the puller: asks the commands' socket as nobody should."""

import contextlib
import dataclasses
import json
import socket
import sys
import threading
import time
from pathlib import Path

PLACE = "/run/split-horizon-relay/commands"
REQUEST = Path("/usr/local/lib/request")


def one(content: bytes, *, drip: bool = False, mute: bool = False) -> bytes:
    """Send it, and return all that comes back."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        connection.connect(PLACE)
        for piece in [content[at : at + 1] for at in range(60)] if drip else [content]:
            connection.sendall(piece)
            time.sleep(1 if drip else 0)
        if not mute:
            connection.shutdown(socket.SHUT_WR)
        found = b""
        while some := connection.recv(65536):
            found += some
        return found


def hundred(directory: str) -> None:
    """A hundred at once, four kinds of them, and an honest one in their midst."""
    from internal_puller.install import as_root
    from internal_puller.install.perform import Step

    answers: list[int] = []

    def bad(number: int) -> None:
        with contextlib.suppress(OSError):
            kind = number // 25  # the slow ones first, so that they take all places
            content = (b" " * 60, b"{", b"nonsense", b"x" * (10 << 20))[kind]
            answers.append(len(one(content, drip=kind == 0, mute=kind == 1)))

    threads = [threading.Thread(target=bad, args=(number,), daemon=True) for number in range(100)]
    for thread in threads:
        thread.start()
    time.sleep(1)
    asked = as_root.Request("nginx", Step.TEST, ((Path(directory), 1),))
    honest = as_root.ask(asked, 30.0).result
    for thread in threads:
        thread.join(20)
    for _ in range(500):  # more than systemd lets trigger a unit in two seconds
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.connect(PLACE)
    told = {"honest": dataclasses.asdict(honest), "most_answer": max(answers, default=0)}
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    if sys.argv[1] == "one":
        sys.stdout.write(one(REQUEST.read_bytes()).decode())
    else:
        hundred(sys.argv[2])
