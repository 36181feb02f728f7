"""The parts of tests/run: what each one runs, and what of this machine it needs."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

INCOMPLETE = 77  # the status by which a command says: nothing failed, but I could not do it all

# A test that carries several marks belongs to the first of these, so that none runs twice.
MARKS = (
    *("browser", "second", "packages", "topology", "faults", "servers", "postgresql"),
    *("pebble", "cas", "clients", "lab"),
)


@dataclass(frozen=True)
class Need:
    """Something that a part wants of the machine.

    Attributes:
        name: how it is called in the summary.
        met: whether it is here.
        blocks: without it the whole part is pointless; otherwise only some tests are skipped.
    """

    name: str
    met: Callable[[], bool]
    blocks: bool = False


@dataclass(frozen=True)
class Part:
    """One word of the command line.

    Attributes:
        mark: a pytest expression, or "" for a plain command.
        command: what runs, without the Python in front; for pytest it is completed by the runner.
        seconds: after which the part has failed.
        in_memory: its temporary files may be in memory: nothing in it is about a real disk.
        by_file: the tests of a file stay with one worker, because they share what is expensive.
        alone: it measures, or waits for seconds that a busy machine makes too short.
        incomplete: what it means when the command ends with INCOMPLETE.
    """

    name: str
    about: str
    mark: str = ""
    command: tuple[str, ...] = ()
    needs: tuple[Need, ...] = ()
    seconds: int = 300
    workers: int = 0
    by_default: bool = True
    in_memory: bool = False
    by_file: bool = False
    alone: bool = False
    incomplete: str = ""

    def missing(self) -> list[Need]:
        """The needs that this machine does not meet."""
        return [need for need in self.needs if not need.met()]

    def pointless(self, missing: list[Need]) -> bool:
        """Whether, with these missing, nothing of the part could run."""
        return any(need.blocks for need in missing) or (
            bool(missing) and len(missing) == len(self.needs)
        )


def _program(name: str, package: str = "", *, blocks: bool = False) -> Need:
    shown = f"{name} (Debian: {package or name})"
    return Need(shown, lambda: shutil.which(name) is not None, blocks)


def _succeeds(*command: str) -> bool:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


_ROOT = Need("root", lambda: os.geteuid() == 0, blocks=True)
_NAMESPACES = Need(
    "network namespaces", lambda: _succeeds("unshare", "--net", "ip", "link"), blocks=True
)
_TRACING = Need(
    "strace that may trace", lambda: _succeeds("strace", "-f", "-o", os.devnull, "true")
)


def _of_mark(name: str) -> str:
    before = MARKS[: MARKS.index(name)]
    return " and ".join([name, *(f"not {mark}" for mark in before)])


def _marked(
    name: str,
    about: str,
    *needs: Need,
    seconds: int = 600,
    workers: int = 0,
    in_memory: bool = False,
    by_file: bool = False,
    alone: bool = False,
) -> Part:
    return Part(
        name,
        about,
        _of_mark(name),
        needs=needs,
        seconds=seconds,
        workers=workers,
        in_memory=in_memory,
        by_file=by_file,
        alone=alone,
    )


PARTS = (
    Part(
        "lint",
        "ruff, mypy, import rules, audit",
        command=("-m", "tools.static_checks"),
        incomplete="THE AUDIT DID NOT RUN: no vulnerability service answers from here",
    ),
    Part(
        "unit",
        "everything without a mark; under a minute",
        " and ".join(f"not {mark}" for mark in MARKS),
        workers=3,
        in_memory=True,
    ),
    _marked(
        "lab",
        "whole programs, the lab's own CA and DNS",
        seconds=1200,
        workers=4,  # they wait for one another more than for a processor
        in_memory=True,
        alone=True,
    ),
    _marked("clients", "other ACME clients at the lab CA", _program("certbot"), _program("lego")),
    _marked(
        "pebble",
        "against Debian's Pebble",
        _program("pebble", blocks=True),
        _program("pebble-challtestsrv", "pebble", blocks=True),
        _program("named", "bind9"),
        workers=2,
    ),
    _marked(
        "cas",
        "the table of every way; acme2certifier and Caddy",
        _ROOT,
        _program("caddy"),
        _program("pebble"),
        _program("named", "bind9"),
        _program("nginx", "nginx-light"),
        _program("unshare", "util-linux"),
        workers=2,
    ),
    _marked(
        "servers",
        "real servers, reloaded and probed",
        _program("nginx", "nginx-light"),
        _program("apache2"),
        _program("haproxy"),
        _program("caddy"),
        _program("postfix"),
        _program("dovecot", "dovecot-imapd, -pop3d, -lmtpd, -managesieved"),
        _program("slapd"),
        _program("mariadbd", "mariadb-server"),
        _program("vsftpd"),
        _program("prosody"),
        _program("java", "tomcat10"),
        _program("sshd", "openssh-server"),
        _program("ssh", "openssh-client"),
        _program("fish"),
        _program("zsh"),
        _program("strace"),
        Need("postgres (Debian: postgresql)", lambda: Path("/usr/lib/postgresql").is_dir()),
        _program("named", "bind9"),
        _program("knotd", "knot"),
        _program("nsupdate", "bind9-dnsutils"),
        _program("squid", "squid-openssl"),
        _program("promtool", "prometheus"),
        _program("podman"),
        _program("runc"),
        _program("catatonit"),
        workers=2,
    ),
    _marked(
        "postgresql",
        "the store on a real PostgreSQL; two agents over one",
        Need(
            "postgres (Debian: postgresql)",
            lambda: Path("/usr/lib/postgresql").is_dir(),
            blocks=True,
        ),
        workers=3,
    ),
    _marked(
        "faults", "kills and injected errors", _TRACING, _program("gdb"), seconds=900, workers=3
    ),
    _marked(
        "topology",
        "an Internet and an intranet in namespaces",
        _ROOT,
        _program("ip", "iproute2", blocks=True),
        _NAMESPACES,
        _program("nft", "nftables", blocks=True),
        _program("ss", "iproute2"),
        _program("nginx", "nginx-light"),
        _program("pebble"),
        _program("named", "bind9"),
        _program("dnssec-signzone", "bind9-utils"),
        _program("squid", "squid-openssl"),
        _program("faketime"),
        workers=2,
    ),
    _marked(
        "packages",
        "ways to install, in fresh roots: packages, container, cloud-init, Ansible",
        _ROOT,
        _program("mmdebstrap"),
        _program("dpkg-deb", "dpkg"),
        _program("zsh"),
        _program("fish"),
        _program("groff", "groff-base"),
        _program("buildah"),
        _program("podman"),
        _program("podman-compose"),
        _program("systemd-nspawn", "systemd-container"),
        _program("pipx"),
        _program("cloud-init"),
        seconds=1000,
        workers=2,
        by_file=True,
    ),
    _marked(
        "browser",
        "the dashboard in Chromium",
        _program("chromium", blocks=True),
        _program("npm"),
        workers=2,
    ),
    _marked(
        "second",
        "the wire format in another language: the vectors, both directions",
        _program("node", "nodejs", blocks=True),
        _program("npm"),
        workers=2,
        in_memory=True,
    ),
    Part(
        "breakages",
        "a sample of: one check taken out, and the named tests notice",
        command=("-m", "tests.breakages", "--sample"),
        seconds=600,
    ),
    Part(
        "demo",
        "deploy/demo --all ends with success",
        command=("deploy/demo", "--all"),
        needs=(Need("deploy/demo", Path("deploy/demo").exists, blocks=True),),
    ),
    Part(
        "bench",
        "measurements; --quick for a short look",
        command=("-m", "tests.bench"),
        needs=(
            Need("tests/bench", Path("tests/bench/__main__.py").exists, blocks=True),
            _program("nginx", "nginx-light"),
            _program("wrk"),
            _program("hyperfine"),
            _program("certbot"),
            _program("lego"),
            _program("pebble"),
        ),
        seconds=1200,
        by_default=False,
        alone=True,
    ),
)


def places(part: Part, root: Path) -> list[str]:
    """Return where the tests of a part are: to read all the others takes seconds in each worker.

    A mark that a conftest.py gives may be on any test beside and below it.
    """
    if part.name not in MARKS:
        return []
    word = f"mark.{part.name}"
    tests = root / "tests"
    folders = [
        path.parent for path in tests.rglob("conftest.py") if word in path.read_text("utf-8")
    ]
    files = [
        path
        for path in sorted(tests.rglob("test_*.py"))
        if word in path.read_text("utf-8") and not any(one in path.parents for one in folders)
    ]
    return [str(path.relative_to(root)) for path in (*folders, *files)]
