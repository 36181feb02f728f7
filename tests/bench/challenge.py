"""Challenge answers for each second: the agent's listener against nginx with one worker.

Both serve the same octets on loopback, one after the other in turns, measured by wrk.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from tests.bench.rows import Row

TOKEN = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"  # the example of RFC 8555 section 8.3
ANSWER = TOKEN + ".9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"
PATH = f"/.well-known/acme-challenge/{TOKEN}"
_WAYS: tuple[tuple[str, str, list[str]], ...] = (
    ("challenge answers, kept connections", ">= 0.60", []),
    ("challenge answers, new connections", ">= 0.45", ["-H", "Connection: close"]),
)
_CONNECTIONS = 32
_ROOT = Path(__file__).resolve().parents[2]
_SEARCH = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"

_LISTENER = """
import asyncio, socket, sys
import uvloop
from external_agent.relay.challenge_app import ChallengeListener
from external_agent.relay.challenge_http import ChallengeAnswers

async def main():
    answers = ChallengeAnswers()
    answers.put(sys.argv[2], sys.argv[3])
    listening = socket.socket(fileno=int(sys.argv[1]))
    await ChallengeListener(answers).start([listening])
    await asyncio.Event().wait()

uvloop.run(main())
"""


def measure(*, quick: bool) -> list[Row]:
    """Measure kept and new connections; ours and nginx take turns, the median counts.

    Raises:
        FileNotFoundError: nginx or wrk is not installed.
    """
    seconds, turns = (1, 1) if quick else (4, 3)
    rows = []
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        ours = stack.enter_context(_listener())
        theirs = stack.enter_context(_nginx(Path(directory)))
        for port in (ours, theirs):
            _check(port)
        for what, goal, headers in _WAYS:
            rates: dict[int, list[float]] = {ours: [], theirs: []}
            for _ in range(turns):
                for port, found in rates.items():
                    found.append(_wrk(port, headers, seconds))
            mine, peers = median(rates[ours]), median(rates[theirs])
            rows.append(Row(what, "answers/s", mine, peers, "nginx, 1 worker", goal))
    return rows


def _program(name: str) -> str:
    path = shutil.which(name, path=_SEARCH)
    if path is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
    return path


@contextlib.contextmanager
def _listener() -> Iterator[int]:
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", 0))
        listening.listen(4096)
        number = listening.fileno()
        command = [sys.executable, "-c", _LISTENER, str(number), TOKEN, ANSWER]
        with _running(command, pass_fds=(number,)):
            yield listening.getsockname()[1]


@contextlib.contextmanager
def _nginx(directory: Path) -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    file = directory / "root" / PATH.lstrip("/")
    file.parent.mkdir(parents=True)
    file.write_text(ANSWER)
    directory.chmod(0o755)
    settings = directory / "nginx.conf"
    settings.write_text(
        f"""
        worker_processes 1; daemon off; error_log {directory}/error.log; pid {directory}/pid;
        events {{ worker_connections 4096; }}
        http {{
            access_log off; sendfile on; keepalive_requests 1000000000; client_body_temp_path
            {directory}/body; proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/fcgi;
            uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
            server {{ listen 127.0.0.1:{port} backlog=4096; root {directory}/root; }}
        }}
        """
    )
    nginx = _program("nginx")
    with _running([nginx, "-e", f"{directory}/error.log", "-c", str(settings)]):
        yield port


@contextlib.contextmanager
def _running(command: list[str], pass_fds: tuple[int, ...] = ()) -> Iterator[None]:
    process = subprocess.Popen(
        command, cwd=_ROOT, pass_fds=pass_fds, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)


def _check(port: int) -> None:
    """Wait until the right octets come."""
    end = time.monotonic() + 15
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as one:
            one.sendall(f"GET {PATH} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            received = b""
            while chunk := one.recv(4096):
                received += chunk
            if received.endswith(ANSWER.encode()):
                return
        if time.monotonic() > end:
            raise RuntimeError(f"what listens on port {port} does not answer with the file")
        time.sleep(0.05)


def _wrk(port: int, headers: list[str], seconds: int) -> float:
    command = [_program("wrk"), "-t1", f"-c{_CONNECTIONS}", f"-d{seconds}s", *headers]
    command.append(f"http://127.0.0.1:{port}{PATH}")
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in out:
        raise RuntimeError(f"wrk met refusals:\n{out}")
    found = re.search(r"Requests/sec:\s*([0-9.]+)", out)
    if found is None:
        raise RuntimeError(f"wrk said something else:\n{out}")
    return float(found[1])
