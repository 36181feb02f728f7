"""Makes split-horizon-relay-agent and split-horizon-relay-puller as Debian packages.

Each carries a virtual environment with exactly what its lock says (Debian 12's own libraries are
too old), made for the Python of the machine that builds. The same tree gives the same octets.
"""

from __future__ import annotations

import argparse
import base64
import csv
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
BUILD_PACKAGES = ("hatchling", "packaging", "pathspec", "pluggy", "trove-classifiers")
_NO_DATE = 1_735_689_600  # where there is no git: 2025-01-01


@dataclass(frozen=True)
class Side:
    """
    Attributes:
        locks: of requirements/, what the environment holds.
        units: of deploy/systemd.
        restarted: the services that an upgrade restarts if they run.
        boot: the units that every boot starts before all others that are not systemd's own.
        other: the word by which lines of the other side are known in the .conf files.
    """

    name: str
    program: str
    locks: tuple[str, ...]
    units: tuple[str, ...]
    restarted: tuple[str, ...]
    boot: tuple[str, ...]
    other: str
    examples: tuple[str, ...]
    about: str

    @property
    def package(self) -> str:
        return f"split-horizon-relay-{self.name}"


SIDES = (
    Side(
        "agent",
        "external-agent",
        ("agent-postgresql.txt",),
        ("external-agent.service", "external-agent-challenge.socket"),
        ("external-agent.service",),
        (),
        "puller",
        ("*/challenge.*", "*/relay.*", "prometheus", "grafana"),
        "the Internet side: gets certificates, hands them out sealed\n"
        " Answers http-01 for twins of intranet names, or writes TXT records, gets certificates\n"
        " from any ACME CA, seals the keys and serves them to enrolled pullers.",
    ),
    Side(
        "puller",
        "internal-puller",
        ("puller-direct.txt", "puller-ssh.txt"),
        (
            "internal-puller.service",
            "internal-puller.timer",
            "internal-puller-run.service",
            "internal-puller-commands.socket",
            "internal-puller-commands@.service",
            "internal-puller-mounts.socket",
            "internal-puller-mounts@.service",
            "internal-puller-recover.service",
        ),
        ("internal-puller-run.service", "internal-puller.timer"),
        ("internal-puller-recover.service",),
        "agent",
        ("*/intranet-server.*", "prometheus", "presets.d"),
        "the intranet side: fetches certificates, outward only\n"
        " Fetches certificates from the agent, verifies and installs them, reloads the servers,\n"
        " looks at what they serve, and rolls back; or asks a CA itself (direct mode).",
    ),
)


class BuildFailed(Exception):
    """A step failed; the text says which and why."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Build what is asked for and print the files."""
    parser = argparse.ArgumentParser(prog="deploy/debian/build", description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "dist", metavar="DIRECTORY")
    parser.add_argument("--wheel", type=Path, help="a wheel that was built from this tree")
    parser.add_argument("sides", nargs="*", metavar="SIDE", help="agent, puller; both by default")
    options = parser.parse_args(arguments)
    chosen = options.sides or [side.name for side in SIDES]
    if unknown := set(chosen) - {side.name for side in SIDES}:
        parser.error(f"there is no side {', '.join(sorted(unknown))}")
    options.output.mkdir(parents=True, exist_ok=True)
    os.umask(0o022)
    try:
        with tempfile.TemporaryDirectory(prefix="relay-deb-") as scratch:
            tools = Path(scratch) / "tools"
            _run(sys.executable, "-m", "venv", str(tools))
            wheel = options.wheel or build_wheel(tools, Path(scratch))
            for side in SIDES:
                if side.name in chosen:
                    stage = Path(scratch) / side.name
                    print(build(side, stage, tools, wheel, options.output))
    except BuildFailed as error:
        sys.stderr.write(f"deploy/debian/build: {error}\n")
        return 1
    return 0


def build_wheel(tools: Path, scratch: Path) -> Path:
    """Build the wheel with the locked versions of what builds it."""
    lock = scratch / "build.txt"
    lock.write_text("".join(_locked(ROOT / "requirements" / "dev.txt", BUILD_PACKAGES)))
    _pip(tools, "install", "--require-hashes", "--no-deps", "--requirement", str(lock))
    folder = scratch / "wheel"
    where = ("--wheel-dir", str(folder), str(ROOT))
    _pip(tools, "wheel", "--no-deps", "--no-build-isolation", *where)
    (wheel,) = folder.glob("*.whl")
    return wheel


def build(side: Side, stage: Path, tools: Path, wheel: Path, output: Path) -> Path:
    """Return the package of one side."""
    environment = Path("opt/split-horizon-relay") / side.name
    _make_environment(stage, environment, tools, side, wheel)
    _link(stage / "usr/bin" / side.program, f"/{environment}/bin/{side.program}")
    for name in side.units:
        text = (DEPLOY / "systemd" / name).read_text()
        text = re.sub(r"/opt/split-horizon-relay/venv/bin/", "/usr/bin/", text)
        text = re.sub(r"(?m)^# Installed as docs(?:.|\n)*?\n#   systemctl", "#   systemctl", text)
        _write(stage / "usr/lib/systemd/system" / name, text)
    for name in side.boot:
        _link(stage / "usr/lib/systemd/system/basic.target.wants" / name, f"../{name}")
    for kind in ("sysusers", "tmpfiles"):
        lines = (DEPLOY / f"systemd/{kind}.conf").read_text().splitlines(keepends=True)
        own = "".join(line for line in lines if side.other not in line)
        _write(stage / f"usr/lib/{kind}.d/{side.package}.conf", own)
    _shell_files(side, stage)
    _documents(side, stage)
    return _close(side, stage, output)


def _make_environment(stage: Path, environment: Path, tools: Path, side: Side, wheel: Path) -> None:
    there = stage / environment
    _run(sys.executable, "-m", "venv", "--without-pip", "--symlinks", str(there))
    python = ("--python", str(there / "bin/python"))
    quiet = ("--no-compile", "--no-deps", "--no-warn-script-location")
    for lock in side.locks:
        hashed = ("--require-hashes", "--requirement", str(ROOT / "requirements" / lock))
        _pip(tools, *python, "install", *quiet, *hashed)
    _pip(tools, *python, "install", *quiet, str(wheel))
    for path in (there / "bin").iterdir():
        if path.name != side.program and not path.name.startswith("python"):
            path.unlink()
    for record in there.rglob("*.dist-info/direct_url.json"):  # where the wheel lay
        record.unlink()
    for path in [*(there / "bin").iterdir(), there / "pyvenv.cfg"]:
        if path.is_file() and not path.is_symlink():
            path.write_text(path.read_text().replace(str(stage), ""))
    _put_records_right(there)
    # The services may not write here, so what they would compile is compiled now.
    compiled = ("--invalidation-mode", "unchecked-hash", "-s", str(stage), "-p", "/", "-q")
    _run(str(there / "bin/python"), "-m", "compileall", *compiled, str(there / "lib"))


def _put_records_right(environment: Path) -> None:
    """What pip noted of scripts is no longer so, and held digests of where this was built."""
    for record in environment.rglob("*.dist-info/RECORD"):
        rows = []
        for name, digest, size in csv.reader(record.read_text().splitlines()):
            path = record.parent.parent / name
            if path.exists():
                own = [_digest(path), str(path.stat().st_size)] if ".." in name else [digest, size]
                rows.append([name, *own])
        with record.open("w", newline="") as stream:
            csv.writer(stream, lineterminator="\n").writerows(sorted(rows))


def _digest(path: Path) -> str:
    """As RECORD has it (the binary distribution format, PEP 427)."""
    value = hashlib.sha256(path.read_bytes()).digest()
    return "sha256=" + base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def _shell_files(side: Side, stage: Path) -> None:
    completion, program = DEPLOY / "completion", side.program
    share = stage / "usr/share"
    _copy(completion / "bash" / program, share / "bash-completion/completions" / program)
    _copy(completion / "zsh" / f"_{program}", share / "zsh/vendor-completions" / f"_{program}")
    fish = f"{program}.fish"
    _copy(completion / "fish" / fish, share / "fish/vendor_completions.d" / fish)
    page = share / "man/man1" / f"{program}.1"
    _copy(DEPLOY / "man" / f"{program}.1", page)
    _run("gzip", "--no-name", "-9", str(page))


def _documents(side: Side, stage: Path) -> None:
    there = stage / "usr/share/doc" / side.package
    for name in ("README.md", "CHANGELOG.md"):
        _copy(ROOT / name, there / name)
    for page in sorted((ROOT / "docs").rglob("*.md")):
        _copy(page, there / "docs" / page.relative_to(ROOT / "docs"))
    for pattern in side.examples:
        for found in sorted(DEPLOY.glob(pattern)):
            for path in [found] if found.is_file() else sorted(found.rglob("*")):
                if path.is_file():
                    _copy(path, there / "examples" / path.relative_to(DEPLOY))
    _write(
        there / "copyright",
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n"
        "Upstream-Name: split-horizon-relay\n\nFiles: *\n"
        "Copyright: split-horizon-relay maintainers\nLicense: Apache-2.0\n"
        " On Debian systems the text is in /usr/share/common-licenses/Apache-2.0.\n\n"
        f"Files: opt/split-horizon-relay/{side.name}/lib/*\n"
        "Copyright: their authors\nLicense: various\n"
        " The licence of each library is in its directory *.dist-info.\n",
    )


def _close(side: Side, stage: Path, output: Path) -> Path:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    machine = _said("dpkg", "--print-architecture")
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    after = f"{sys.version_info.major}.{sys.version_info.minor + 1}"
    size = sum(map(_kibibytes, stage.rglob("*")))
    control = stage / "DEBIAN"
    _write(
        control / "control",
        f"Package: {side.package}\nVersion: {version}\nArchitecture: {machine}\n"
        "Maintainer: split-horizon-relay maintainers <maintainers@example.com>\n"
        f"Installed-Size: {size}\nDepends: python3 (>= {python}~), python3 (<< {after}), libc6\n"
        "Recommends: ca-certificates, systemd\n"
        "Section: admin\nPriority: optional\n"
        f"Description: split-horizon-relay, {side.about}\n",
    )
    for name in ("postinst", "prerm", "postrm"):
        text = (DEPLOY / "debian" / name).read_text()
        values = {
            "PACKAGE": side.package,
            "UNITS": " ".join(unit for unit in side.units if "@" not in unit),
            "RESTARTED": " ".join(side.restarted),
        }
        for word, value in values.items():
            text = text.replace(f"@{word}@", value)
        _write(control / name, text, mode=0o755)
    date = _date()
    for path in (stage, *stage.rglob("*")):
        os.utime(path, (date, date), follow_symlinks=False)
    file = output / f"{side.package}_{version}_{machine}.deb"
    archive = ("dpkg-deb", "--root-owner-group", "-Zzstd", "-z6", "--build", str(stage), str(file))
    _run(*archive, SOURCE_DATE_EPOCH=str(date))
    return file


def _kibibytes(path: Path) -> int:
    """As dpkg-gencontrol counts: what the file system says of directories is not the same twice."""
    regular = path.is_file() and not path.is_symlink()
    return -(-path.stat().st_size // 1024) if regular else 1


def _date() -> int:
    """Of the newest commit, for every file."""
    if (given := os.environ.get("SOURCE_DATE_EPOCH", "")).isdigit():
        return int(given)
    command = ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT), "log", "-1", "--format=%ct"]
    try:
        return int(subprocess.run(command, capture_output=True, check=True).stdout)
    except (OSError, ValueError, subprocess.CalledProcessError):
        return _NO_DATE


def _locked(lock: Path, names: Sequence[str]) -> Iterator[str]:
    """The lines of a lock about some packages."""
    wanted = False
    for line in lock.read_text().splitlines(keepends=True):
        if not line[:1].isspace():
            wanted = line.partition("==")[0] in names
        if wanted:
            yield line


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _write(path: Path, text: str, *, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def _link(path: Path, target: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def _pip(tools: Path, *arguments: str) -> None:
    _run(str(tools / "bin/python"), "-m", "pip", "--quiet", *arguments)


def _said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _run(*command: str, **environment: str) -> None:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )
    if done.returncode:
        raise BuildFailed(f"{' '.join(command)}\n{(done.stdout + done.stderr)[-3000:]}")


if __name__ == "__main__":
    sys.exit(main())
