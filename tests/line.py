"""The whole line as an operator runs it: both command lines as processes, on any host."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from external_agent.commands.client import running_agent
from tests import preloaded
from tests.lab.peers import clean_environment

ROOT = Path(__file__).resolve().parents[1]
COMMAND_SECONDS = 60.0
STOP_SECONDS = 30.0
Host = Callable[..., list[str]]


def this_machine(*command: str) -> list[str]:
    """Run a command where the test runs."""
    return list(command)


@dataclass
class Done:
    """A command that ended."""

    argv: list[str]
    code: int
    out: str
    err: str


class Unexpected(AssertionError):
    """A command ended otherwise than it should."""


def wait_until(
    condition: Callable[[], Any], seconds: float = 30.0, *, what: str = "", pause: float = 0.05
) -> Any:
    """Return the first true answer of `condition`; AssertionError when there is none in time."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what or condition}"
        time.sleep(pause)
    return found


@dataclass
class Program:
    """One of the two command lines with its files below `base`."""

    base: Path
    module: str
    config_variable: str
    host: Host = this_machine
    environment: dict[str, str] = field(default_factory=dict)
    inherits: tuple[int, ...] = ()  # descriptors that stay open in what argv() runs

    @property
    def config(self) -> Path:
        return self.base / "settings.toml"

    def argv(self, *arguments: str) -> list[str]:
        return self.host(sys.executable, "-P", "-m", self.module, *arguments)

    def variables(self) -> dict[str, str]:
        return clean_environment(
            PYTHONPATH=str(ROOT),
            PYTHONUNBUFFERED="1",
            **{self.config_variable: str(self.config)},
            **self.environment,
        )

    def call(self, *arguments: str, stdin: str = "", expect: int | None = 0) -> Done:
        """Run one command to its end; `expect` is its exit code, None for any."""
        argv = self.argv(*arguments)
        done = self._preloaded(argv, arguments, stdin) if self.may_be_preloaded else None
        if done is None:
            ended = subprocess.run(
                argv,
                input=stdin,
                capture_output=True,
                text=True,
                timeout=COMMAND_SECONDS,
                env=self.variables(),
                cwd=self.base,
                check=False,
            )
            done = Done(argv, ended.returncode, ended.stdout, ended.stderr)
        if arguments[:1] == ("status",) and (done.code, expect) == (13, 0):
            return done  # it says how things stand; that something needs a person is no failure
        if expect is not None and done.code != expect:
            raise Unexpected(f"{arguments} ended with {done.code}, not {expect}:\n{done.err}")
        return done

    @property
    def may_be_preloaded(self) -> bool:
        """Whether it need not be started truly, as on another host or with another clock."""
        read_at_the_start = ("LD_", "PYTHON", "LC_", "LANG")
        return (
            self.host is this_machine
            and type(self).argv is Program.argv
            and not any(name.startswith(read_at_the_start) for name in self.environment)
        )

    def _preloaded(self, argv: list[str], arguments: Sequence[str], stdin: str) -> Done:
        with contextlib.ExitStack() as stack:
            files = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(3)]
            files[0].write(stdin.encode())
            files[0].seek(0)
            process = preloaded.start(
                self.module,
                arguments,
                environment=self.variables(),
                directory=self.base,
                streams=(files[0].fileno(), files[1].fileno(), files[2].fileno()),
            )
            try:
                code = process.wait(COMMAND_SECONDS)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                raise
            out, err = (os.pread(file.fileno(), 1 << 26, 0) for file in files[1:])
        return Done(argv, code, out.decode(), err.decode())

    @contextlib.contextmanager
    def running(self, *arguments: str) -> Iterator[Running]:
        """Run one command until the block ends."""
        process = Running(self, arguments)
        try:
            yield process
        finally:
            process.stop()


class Running:
    """A command that stays; its output is in a file."""

    def __init__(self, program: Program, arguments: Sequence[str]) -> None:
        self.log = program.base / f"{arguments[0]}.log"
        self._program, self._arguments = program, list(arguments)
        self._process: subprocess.Popen[bytes] | preloaded.Started | None = None
        self._begun = 0
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._begun = log.tell()
            self._process = self._started(log.fileno())

    def _started(self, log: int) -> subprocess.Popen[bytes] | preloaded.Started:
        program = self._program
        if program.may_be_preloaded:
            with Path(os.devnull).open("rb") as nothing:
                return preloaded.start(
                    program.module,
                    self._arguments,
                    environment=program.variables(),
                    directory=program.base,
                    streams=(nothing.fileno(), log, log),
                    session=True,
                )
        return subprocess.Popen(
            program.argv(*self._arguments),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=program.variables(),
            cwd=program.base,
            start_new_session=True,
            pass_fds=program.inherits,
        )

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def ended(self) -> int | None:
        """The exit code, or None while it runs."""
        return None if self._process is None else self._process.poll()

    def text(self) -> str:
        """What it has written since it was started last."""
        return self.log.read_bytes()[self._begun :].decode("utf-8", "replace")

    def kill(self) -> None:
        """End it at once, as a power failure would, with whatever it has started."""
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> int:
        """Ask it to end and return its exit code; kill it when it does not."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise Unexpected(f"it does not stop:\n{self.text()[-3000:]}") from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()


class Agent(Program):
    """An external agent."""

    def __init__(self, base: Path, host: Host = this_machine, **environment: str) -> None:
        base.mkdir(parents=True, exist_ok=True)
        super().__init__(
            base,
            "external_agent",
            "RELAY_AGENT_CONFIG",
            host,
            environment,
        )

    @property
    def state(self) -> Path:
        return self.base / "state"

    def init(self, directory_url: str, ca_root_pem: str, relay_url: str, *options: str) -> None:
        """Make it an agent of that CA."""
        root = self.base / "ca-tls-root.pem"
        root.write_text(ca_root_pem)
        self.call(
            *("--config", str(self.config), "init", "--contact", "mailto:ops@example.com"),
            *("--ca", directory_url, "--ca-root", str(root), "--agree-terms"),
            *("--relay-url", relay_url, "--state-directory", str(self.state), *options),
        )

    def add(self, *arguments: str) -> str:
        """Want a certificate; return the enrolment token."""
        return self.call("add", *arguments).out.strip()

    def token(self, *certificates: str) -> str:
        return self.call("token", *certificates).out.strip()

    def status(self) -> Any:
        """Return what `status --json` prints.

        A running agent is asked by its socket, as the command does, because a test looks often and
        the start of a program costs a second of a processor.
        """
        with running_agent(self.state / "operator.sock") as agent:
            if agent is not None:
                return agent.get("status")
        return json.loads(self.call("status", "--json").out)

    def certificate(self, identifier: str) -> Any:
        """Return what `status` says of one certificate."""
        found = [one for one in self.status()["certificates"] if one["certificate"] == identifier]
        assert len(found) == 1, self.status()
        return found[0]

    @contextlib.contextmanager
    def serving(self) -> Iterator[Running]:
        """Run `serve`; returns when every listener is open."""
        with self.running("serve") as process:
            self.await_listening(process)
            yield process

    def await_listening(self, process: Running) -> None:
        """Wait until `serve` says that it listens."""

        def listens() -> bool:
            assert process.ended is None, f"it ended with {process.ended}:\n{process.text()}"
            return '"event": "listening"' in process.text()

        wait_until(listens, what="the agent listens")


class Puller(Program):
    """An internal puller."""

    def __init__(self, base: Path, host: Host = this_machine, **environment: str) -> None:
        base.mkdir(parents=True, exist_ok=True)
        super().__init__(base, "internal_puller", "RELAY_PULLER_CONFIG", host, environment)
        self.settings()

    @property
    def state(self) -> Path:
        return self.base / "state"

    def settings(self, **more: str | float | bool) -> None:
        """Write the settings file."""
        values: dict[str, Any] = {
            "state_directory": str(self.state),
            "targets_file": str(self.base / "targets.toml"),
            "lock_file": str(self.base / "lock"),
            **more,
        }
        self.config.write_text("".join(f"{k} = {json.dumps(v)}\n" for k, v in values.items()))

    def enroll(self, token: str, expect: int = 0) -> Done:
        return self.call("enroll", stdin=token + "\n", expect=expect)

    def pull(self, *arguments: str, expect: int | None = 0) -> Done:
        return self.call("pull", *arguments, expect=expect)

    def target(self, certificate: str, root_pem: str, *options: str) -> Path:
        """Have it installed under `base`, trusted by a root of the lab; return the directory."""
        root = self.base / "root.pem"
        root.write_text(root_pem)
        directory = self.base / "tls" / certificate
        self.call(
            *("target", "add", certificate, "--root", str(root), "--directory", str(directory)),
            *options,
        )
        return directory


def installed(directory: Path) -> dict[int, Path]:
    """Return the generations below a target's directory, oldest first."""
    found = (directory / "generations").glob("[0-9]*")
    return dict(sorted((int(path.name.split(".")[0]), path) for path in found))


def active(directory: Path) -> int | None:
    """Return the generation that is in place."""
    current = directory / "current"
    return int(current.readlink().name.split(".")[0]) if current.is_symlink() else None


def leaf_sha256(directory: Path) -> str | None:
    """Return the digest of the leaf that is in place, as the CA knows it."""
    chain = directory / "current" / "fullchain.pem"
    if not chain.exists():
        return None
    leaf = x509.load_pem_x509_certificate(chain.read_bytes())
    return hashlib.sha256(leaf.public_bytes(Encoding.DER)).hexdigest()
