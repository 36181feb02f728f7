"""A server in a container, by the lines of docs/operations.md: it sees each switch by itself."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from internal_puller.install.generations import Generations
from internal_puller.install.mounts import mounted
from internal_puller.settings.targets import Target
from tests.lab.peers import require
from tests.line import wait_until
from tests.packages.podman import Podman
from tests.unit.internal_puller.install.helpers import NAME, material
from tests.unit.internal_puller.install.layouts import place

pytestmark = [pytest.mark.servers, pytest.mark.timeout(240)]

PAGE = (Path(__file__).parents[2] / "docs/operations.md").read_text()
SECTION = PAGE.partition("### A server in a container")[2].partition("\n### ")[0]
DOCUMENTED = "/etc/split-horizon-relay/tls/www.intra.example.com"
_SEEN = """
import hashlib, ssl, sys
pem = ssl.get_server_certificate(("127.0.0.1", int(sys.argv[1])), timeout=5)
print(hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest())
"""


def documented(start: str) -> list[str]:
    """Return the words of the one line of the section that begins so."""
    lines = re.sub(r"\\\n\s*", " ", SECTION).splitlines()
    (line,) = [one for one in lines if one.startswith(start)]
    return shlex.split(line)


@dataclass
class Containers:
    podman: Podman
    image: Path
    target: Target

    def run(self, name: str, mount: Path, port: int) -> None:
        """Start the documented container, with nginx from here as its image."""
        lines = re.findall(r"^ssl_certificate.*;$", SECTION, re.MULTILINE)
        assert len(lines) == 2
        (self.image / f"etc/{name}.conf").write_text(
            f"error_log /dev/null; pid /run/{name}.pid; daemon off; events {{}}\n"
            f"http {{ access_log off; server {{ listen 127.0.0.1:{port} ssl;\n"
            f"{lines[0]}\n{lines[1]}\n}} }}\n"
        )
        words = documented("podman run")
        words[words.index("--name") + 1] = name
        at = words.index("--publish")
        words[at : at + 2] = ["--network", "host"]
        at = words.index("--volume") + 1
        words[at] = words[at].replace(DOCUMENTED, str(mount))
        assert words.pop() == "IMAGE"
        nginx = str(shutil.which("nginx"))
        self.podman(*words, "--rootfs", str(self.image), nginx, "-c", f"/etc/{name}.conf")

    def reload(self, name: str) -> None:
        words = documented("podman kill")
        assert words.pop() == "web"
        self.podman(*words, name)

    def seen(self, port: int) -> str | None:
        done = self.podman._run(sys.executable, "-c", _SEEN, str(port))
        return done.stdout.strip() if done.returncode == 0 else None

    def serves(self, port: int, generation: int) -> None:
        leaf = material(generation).leaf_sha256
        wait_until(lambda: self.seen(port) == leaf, what=f"generation {generation} at port {port}")


def _put(program: str, image: Path) -> None:
    """Copy a program of this machine and its libraries."""
    path = str(shutil.which(program))
    told = subprocess.run(["ldd", path], capture_output=True, text=True, check=True).stdout
    for file in (path, *re.findall(r"(/\S+) \(0x", told)):
        there = image / file.lstrip("/")
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, there)


@pytest.fixture
def containers(tmp_path: Path) -> Iterator[Containers]:
    for program in ("podman", "runc", "catatonit", "nsenter", "unshare", "nginx"):
        require(program)
    base, image = tmp_path / "podman", tmp_path / "podman/image"
    for folder in ("etc", "tmp", "run", "proc", "sys", "dev", "var/log/nginx", "var/lib/nginx"):
        (image / folder).mkdir(parents=True)
    (image / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n")
    (image / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")
    _put("nginx", image)
    podman = Podman(base)
    podman.prepare()
    podman.boot()
    try:
        yield Containers(podman, image, Target(NAME, (NAME,), tmp_path / "tls/www"))
    finally:
        podman.remove()


def test_the_directory_is_mounted_and_each_switch_is_seen(containers: Containers) -> None:
    target = containers.target
    place(target, 1)
    containers.run("web", target.directory, 8443)
    containers.run("wrong", target.directory / "current", 8444)
    for generation in (1, 2, 3):
        place(target, generation)
        containers.reload("web")
        containers.reload("wrong")
        containers.serves(8443, generation)
        containers.serves(8444, 1)

    found = mounted((target,))
    assert found.complete
    assert found.paths == {target.directory / "generations/1"}
    with Generations(target) as generations:
        generations.prune(1)
        assert generations.names() == ["1", "3"]
    containers.reload("wrong")
    containers.serves(8444, 1)
    containers.podman("podman", "kill", "wrong")
    wait_until(lambda: mounted((target,)).paths == frozenset(), what="the container is gone")
    with Generations(target) as generations:
        generations.prune(1)
        assert generations.names() == ["3"]


def test_the_documented_lines_mount_no_current() -> None:
    volumes = re.findall(r"--volume (\S+)", SECTION)
    assert volumes == [f"{DOCUMENTED}:/certs:ro"]
    assert "docker kill --signal HUP web" in SECTION
