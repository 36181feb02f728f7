"""The container image, built from the Debian package, alone and with PostgreSQL by compose.yaml."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.peers import require
from tests.more_servers import postgresql_bin
from tests.packages.conftest import ROOT, build
from tests.packages.podman import Podman

pytestmark = [pytest.mark.packages, pytest.mark.timeout(400)]
CONTAINER = ROOT / "deploy" / "container"
AGENT = "/usr/bin/external-agent"
IMAGE = "split-horizon-relay-agent"
DATABASE_IMAGE = "localhost/postgresql"
WWW = "www.intra.example.com"
INIT = (
    *("init", "--ca", "letsencrypt-staging", "--contact", "mailto:ops@example.com"),
    "--agree-terms",
    *("--relay-url", "https://relay.example.com:8443", "--challenge-listen", "0.0.0.0:8402"),
)
_VISIT = """
import http.client, ssl, sys
plain = http.client.HTTPConnection("127.0.0.1", 80, timeout=20)
plain.request("GET", "/.well-known/acme-challenge/unknown")
print(plain.getresponse().status)
relay = http.client.HTTPSConnection(
    "127.0.0.1", 8443, timeout=20, context=ssl._create_unverified_context()
)
relay.request("GET", "/")
print(relay.getresponse().status)
"""


@pytest.fixture(scope="module")
def podman(
    debian_packages: dict[str, Path],
    debian_archive: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Podman]:
    """Podman with our image, upon a Debian of our own instead of the one that is fetched."""
    for program in ("buildah", "podman", "podman-compose", "runc", "catatonit", "nsenter"):
        require(program)
    one = Podman(tmp_path_factory.mktemp("podman"))
    one.prepare()
    one("podman", "import", "--quiet", str(debian_archive), "localhost/debian")
    context = one.base / "dist"
    context.mkdir()
    shutil.copy(debian_packages["agent"], context)
    base = ("--build-arg", "BASE=localhost/debian")
    build_image(one, context, IMAGE, "--file", str(CONTAINER / "Containerfile"), *base)
    try:
        one.boot()
        yield one
    finally:
        one.remove()


def build_image(podman: Podman, context: Path, tag: str, *options: str) -> None:
    quiet = ("--quiet", "--isolation", "chroot", "--tag", tag)
    podman("buildah", "build", *quiet, *options, str(context))


def healthy(podman: Podman, container: str) -> None:
    """Wait until its own health check is content."""
    deadline = time.monotonic() + 120
    while not podman.succeeds("podman", "healthcheck", "run", container):
        assert time.monotonic() < deadline, podman("podman", "logs", container)
        time.sleep(0.2)


def test_the_image(podman: Podman) -> None:
    (told,) = json.loads(podman("podman", "inspect", "--type", "image", IMAGE))
    config = told["Config"]
    assert config["User"] == "10001:10001"
    assert (config["Entrypoint"], config["Cmd"]) == ([AGENT], ["serve"])
    assert list(config["Volumes"]) == ["/data"]
    published = ("8402/tcp", "8443/tcp")
    assert set(config["ExposedPorts"]) == set(published)


@pytest.fixture
def project(podman: Podman, request: pytest.FixtureRequest) -> Path:
    """Where compose.yaml lies, with the password beside it; the image that it names is there."""
    programs = postgresql_bin()
    if programs is None:
        require("postgres")
    assert programs is not None
    folder = podman.base / "container"
    shutil.copytree(CONTAINER, folder)
    named = f"RELAY_DATABASE_PASSWORD=a/b:c@d%41\nRELAY_DATABASE_IMAGE={DATABASE_IMAGE}\n"
    (folder / ".env").write_text(named)
    context = podman.base / "postgresql"
    shutil.copytree(Path(__file__).parent / "postgresql_image", context)
    pack_postgresql(programs, context / "postgresql.tar")
    build_image(podman, context, DATABASE_IMAGE, "--build-arg", f"PROGRAMS={programs}")
    return folder


def pack_postgresql(programs: Path, archive: Path) -> None:
    """This machine's server and its libraries; to install it anew would take half a minute."""
    library = programs.parent / "lib"
    loaded: set[str] = set()
    for path in (*programs.iterdir(), *library.glob("*.so")):
        told = subprocess.run(["ldd", path], capture_output=True, text=True, check=True).stdout
        loaded |= {word for word in told.split() if word.startswith("/")}
    own = {path for path in loaded if not belongs_to_libc(path)}
    files = {f"{os.path.realpath(Path(path).parent)}/{Path(path).name}" for path in own}
    files |= {os.path.realpath(path) for path in files}
    share = Path("/usr/share/postgresql") / programs.parent.name
    without = ("--exclude=bitcode", "--exclude=llvmjit*")
    names = (str(path).lstrip("/") for path in (*sorted(files), programs.parent, share))
    build("tar", "--create", "--file", str(archive), "--directory", "/", *without, *names)


def belongs_to_libc(path: str) -> bool:
    return Path(path).name.split(".")[0] in ("libc", "libm", "libresolv", "ld-linux-x86-64")


def test_with_postgresql(podman: Podman, project: Path) -> None:
    """What the head of compose.yaml says, typed; and the state outlives a cut of the power."""

    def compose(*command: str) -> str:
        return podman("podman-compose", *command, folder=project)

    def sql(statement: str) -> list[str]:
        psql = ("psql", "--no-psqlrc", "-At", "--username", "relay", "--command", statement)
        return podman("podman", "exec", "container_database_1", *psql).split()

    compose("up", "--detach", "database")
    healthy(podman, "container_database_1")
    said = compose("run", "--rm", "agent", *INIT)
    assert "Settings: /data/" in said, said
    compose("up", "--detach")
    for name in ("database", "agent"):
        healthy(podman, f"container_{name}_1")
    assert "shr1_" in compose("exec", "-T", "agent", "external-agent", "add", WWW)
    certificates = "SELECT id FROM certificates"
    assert sql(certificates) == [WWW]
    inside = ("podman", "exec", "container_agent_1")
    assert ".db" not in podman(*inside, "ls", "-R", "/data")
    modes = podman(*inside, "stat", "-c", "%u %a", "/data/split-horizon-relay/agent/account.key")
    assert modes.split() == ["10001", "600"]
    visit = podman(sys.executable, "-c", _VISIT)
    assert visit.split() == ["404", "400"]  # nothing that waits, and nobody who signed

    podman.cut_the_power()
    podman.boot()
    for name in ("database", "agent"):
        healthy(podman, f"container_{name}_1")
    assert sql(certificates) == [WWW]
    assert WWW in compose("exec", "-T", "agent", "external-agent", "status")
    assert podman(sys.executable, "-c", _VISIT).split() == visit.split()
