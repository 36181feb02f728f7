"""200 certificates through Pebble by a running agent, against certbot and lego one by one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from external_agent.store.interface import Store
from external_agent.store.open import open_store
from shared.contract.sealing import Identity
from shared.contract.signing import SigningKey
from tests.bench.rows import Row
from tests.lab.ports import free_port
from tests.pebble import ChallTestSrv, Pebble, wait_for_port

WORKERS = 32
_LONGEST = 300.0


def measure(*, quick: bool) -> list[Row]:
    for program in ("pebble", "pebble-challtestsrv", "certbot", "lego"):
        if shutil.which(program) is None:
            raise FileNotFoundError(2, "not installed", program)
    count, one_by_one = (60, 1) if quick else (200, 5)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port = free_port()
        dns = stack.enter_context(ChallTestSrv(serve_http=False))
        pebble = stack.enter_context(Pebble(dns=dns.dns, http_port=port))
        ours = _agent(directory, pebble, port, count)
        certbot = _rate(lambda number: want_certbot(directory, pebble, port, number), one_by_one)
        lego = _rate(lambda number: _lego(directory, pebble, port, number), one_by_one)
    what = f"{count} certificates through Pebble, {WORKERS} workers"
    return [
        Row(what, "1/s", ours, certbot, "certbot, one by one", ">= 20"),
        Row(what, "1/s", ours, lego, "lego, one by one"),
    ]


def agent_environment(directory: Path, pebble: Pebble, port: int) -> dict[str, str]:
    """Run ``external-agent init``, and return the variables for everything that follows."""
    relay, operator = free_port(), free_port()
    variables = _variables(pebble) | {"RELAY_AGENT_CONFIG": str(directory / "agent.toml")}
    words = ["init", "--agree-terms", "--contact", "mailto:ops@example.com"]
    words += ["--ca", pebble.directory_url, "--ca-root", str(pebble.minica)]
    words += ["--relay-url", f"https://127.0.0.1:{relay}", "--relay-listen", f"127.0.0.1:{relay}"]
    words += ["--challenge-listen", f"127.0.0.1:{port}", "--state-directory"]
    words += [str(directory / "agent"), "--operator-listen", f"127.0.0.1:{operator}"]
    run([sys.executable, "-m", "external_agent", *words], variables)
    return variables


def _agent(directory: Path, pebble: Pebble, port: int, count: int) -> float:
    variables = agent_environment(directory, pebble, port)
    variables["RELAY_AGENT_ISSUING__WORKERS"] = str(WORKERS)
    store = open_store(f"sqlite:///{directory / 'agent' / 'relay.db'}")
    _want(store, pebble.directory_url, count)
    serve = [sys.executable, "-m", "external_agent", "serve"]
    with (directory / "agent.log").open("wb") as log:
        begin = time.perf_counter()
        process = subprocess.Popen(
            serve, env=variables, stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
        try:
            wait_for_port(port, process, directory / "agent.log")
            _until_issued(store, count, directory / "agent.log")
            return count / (time.perf_counter() - begin)
        finally:
            process.terminate()
            process.wait(30)
            store.close()


def _want(store: Store, directory_url: str, count: int) -> None:
    """Add the certificates and one enrolled puller that is granted them all."""
    now = int(time.time())
    names = [f"n{number}.intra.example.com" for number in range(count)]
    for name in names:
        store.add_certificate(name, [name], directory_url=directory_url, now=now)
    token, puller = SigningKey.generate(), SigningKey.generate()
    store.create_token(token.public.public, names, now=now, expires_at=now + 600)
    store.redeem_token(
        token.id,
        signing_key=puller.public.public,
        sealing_key=Identity.generate().recipient.public,
        host="bench",
        nonce="A" * 22,
        now=now,
    )


def _until_issued(store: Store, count: int, log: Path) -> None:
    deadline = time.monotonic() + _LONGEST
    while time.monotonic() < deadline:
        issued = sum(status.issued is not None for status in store.status(int(time.time())))
        if issued == count:
            return
        time.sleep(0.25)
    raise RuntimeError(f"{issued} of {count} issued:\n{log.read_text()[-3000:]}")


def _rate(issue: Callable[[int], None], count: int) -> float:
    begin = time.perf_counter()
    for number in range(count):
        issue(number)
    return count / (time.perf_counter() - begin)


def want_certbot(directory: Path, pebble: Pebble, port: int, number: int) -> None:
    own = directory / "certbot"
    command = ["certbot", "certonly", "--standalone", "--non-interactive", "--agree-tos"]
    command += ["--register-unsafely-without-email", "--server", pebble.directory_url]
    command += ["--http-01-port", str(port), "--domain", f"c{number}.intra.example.com"]
    for option in ("config", "work", "logs"):
        command += [f"--{option}-dir", str(own / option)]
    run(command, _variables(pebble))


def _lego(directory: Path, pebble: Pebble, port: int, number: int) -> None:
    command = ["lego", "--server", pebble.directory_url, "--accept-tos", "--http"]
    command += ["--email", "ops@example.com", "--http.port", f"127.0.0.1:{port}"]
    command += ["--path", str(directory / "lego"), "--domains", f"l{number}.intra.example.com"]
    run([*command, "run"], _variables(pebble))


def _variables(pebble: Pebble) -> dict[str, str]:
    return os.environ | {
        "REQUESTS_CA_BUNDLE": str(pebble.minica),
        "LEGO_CA_CERTIFICATES": str(pebble.minica),
    }


def run(command: list[str], variables: dict[str, str], given: str = "") -> str:
    done = subprocess.run(
        command,
        env=variables,
        input=given,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout
