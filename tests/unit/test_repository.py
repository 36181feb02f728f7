"""The rules of the repository: locks, import rules, units, and what no file in it may hold."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PEERS = ("acme2certifier", "ansible")  # of the tests, without the project
SMALL = ("agent", "agent-postgresql", "puller", "puller-direct", "puller-ssh")
LOCKS = (*SMALL, "dev", *PEERS)
SYSTEMD = ROOT / "deploy" / "systemd"
PACKAGES = ("shared", "external_agent", "internal_puller")

NEVER_IN_PURE = {
    *("acme", "asyncio", "fastapi", "httpx", "os", "requests"),
    *("socket", "sqlalchemy", "starlette", "subprocess"),
}


def project() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def tracked() -> list[Path]:
    """Every file in git; without git (a source archive) every file that git would not ignore."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no git checkout")
    listing = subprocess.run(
        ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    return [path for name in listing.split("\0") if name and (path := ROOT / name).is_file()]


def locked(name: str) -> dict[str, tuple[str, int]]:
    """Package -> (version, number of hashes)."""
    found: dict[str, tuple[str, int]] = {}
    text = (ROOT / "requirements" / f"{name}.txt").read_text().replace("\\\n", " ")
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            package = re.match(r"([a-z0-9-]+)==(\S+)(?: ; [^#]*?)?(?:\s+--hash=|$)", line)
            assert package, f"{name}.txt: not one pinned package: {line[:80]}"
            found[package[1]] = (package[2], len(re.findall(r"--hash=sha256:[0-9a-f]{64}", line)))
    return found


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_package_has_hashes(name: str) -> None:
    packages = locked(name)
    assert packages
    assert [package for package, (_, hashes) in packages.items() if not hashes] == []


@pytest.mark.parametrize("name", LOCKS)
def test_no_lock_names_an_index(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    assert re.findall(r"--(?:extra-|no-)?index|--find-links|--trusted|://|(?m:^-)", text) == []


@pytest.mark.parametrize("name", LOCKS)
def test_the_locks_satisfy_pyproject(name: str) -> None:
    settings = project()
    about = settings["project"]
    extras = about["optional-dependencies"]  # type: ignore[index]
    wanted = list(about["dependencies"])  # type: ignore[index]
    if name in PEERS:
        wanted = settings["dependency-groups"][name]  # type: ignore[index]
    elif name == "dev":
        wanted += [line for extra in extras.values() for line in extra]
        wanted += settings["dependency-groups"]["dev"]  # type: ignore[index]
        wanted += settings["build-system"]["requires"]  # type: ignore[index]
    else:
        wanted += [line for extra in name.split("-") for line in extras[extra]]
    packages = locked(name)
    for requirement in map(Requirement, wanted):
        package = canonicalize_name(requirement.name)
        assert package in packages, f"{requirement} is not locked: run tools/lock"
        version = packages[package][0]
        assert requirement.specifier.contains(version), f"{requirement}, locked {version}"


def test_the_small_locks_hold_the_versions_that_are_tested() -> None:
    tested = locked("dev")
    for name in SMALL:
        assert set(locked(name).items()) <= set(tested.items())


def test_no_file_names_a_registry_or_a_machine() -> None:
    registries = ("pypi" + ".org", "python" + "hosted.org", "registry." + "npmjs", "docker" + ".io")
    machines = ("/wo" + "rk/", "/ro" + "ot/.", "/ho" + "me/", "/Us" + "ers/", "/tmp/" + "team")
    wrong = [
        f"{path.relative_to(ROOT)}: {word}"
        for path in tracked()
        for word in (*registries, *machines)
        if word.encode() in path.read_bytes()
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "name",
    [
        *("tests/run", "tools/lint", "tools/lock", "tools/manuals", ".ci/run", "deploy/demo"),
        "deploy/debian/build",
    ],
)
def test_commands_can_be_executed(name: str) -> None:
    path = ROOT / name
    assert path.stat().st_mode & 0o111, f"{name} cannot be executed"
    assert path.read_bytes().startswith(b"#!")


def test_every_module_says_why_it_exists() -> None:
    silent = []
    for path in tracked():
        if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in (
            *PACKAGES,
            "tools",
            "tests",
        ):
            text = path.read_text()
            if text.strip() and ast.get_docstring(ast.parse(text)) is None:
                silent.append(str(path.relative_to(ROOT)))
    assert silent == []


def contracts(kind: str) -> list[dict[str, list[str]]]:
    found = project()["tool"]["importlinter"]["contracts"]  # type: ignore[index]
    return [contract for contract in found if contract["type"] == kind]


def rooms(side: str) -> set[str]:
    """The folders directly below a side, and the module that has a room of its own."""
    below = (ROOT / side).glob("*/__init__.py")
    alone = {"trust"} & {path.stem for path in (ROOT / side).glob("*.py")}
    return alone | {path.parent.name for path in below}


def test_what_decides_does_no_io_and_asks_no_clock() -> None:
    (ours,) = contracts("forbidden")
    assert set(ours["source_modules"]) == {
        *("external_agent.facts", "external_agent.records", "internal_puller.trust"),
        *("shared.contract", "shared.issuing"),
    }
    assert set(ours["forbidden_modules"]) >= NEVER_IN_PURE


@pytest.mark.parametrize("side", PACKAGES)
def test_every_room_has_a_place_in_the_order(side: str) -> None:
    (ours,) = (one for one in contracts("layers") if one.get("containers") == [side])
    layers = [word.strip() for line in ours["layers"] for word in line.split(":")]
    assert sorted(layers) == sorted(rooms(side)), "keep pyproject.toml in step"


@pytest.mark.parametrize("side", PACKAGES)
def test_the_picture_of_the_rooms_is_the_tree_in_its_order(side: str) -> None:
    page = (ROOT / "docs" / "development.md").read_text()
    picture = page.partition("```\n")[2].partition("```")[0]
    (of_this_side,) = (
        part for part in re.split(r"\n(?=\S)", picture) if part.startswith(f"{side}/")
    )
    drawn = re.findall(r"(?m)^  (\w+)(?:/|\.py)  ", of_this_side)
    (ours,) = (one for one in contracts("layers") if one.get("containers") == [side])
    storeys = [{word.strip() for word in line.split(":")} for line in ours["layers"]]
    height = {name: level for level, names in enumerate(storeys) for name in names}
    assert sorted(drawn) == sorted(rooms(side))
    assert [height[name] for name in drawn] == sorted(height[name] for name in drawn)


# --- systemd ----------------------------------------------------------------------------------

UNITS = sorted(
    path.name for path in SYSTEMD.iterdir() if path.suffix in (".service", ".socket", ".timer")
)


def analyze(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is missing (Debian: systemd)")
    return subprocess.run(
        ["systemd-analyze", *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units, with a program that exists on every machine in place of ours."""
    for name in UNITS:
        text = (SYSTEMD / name).read_text()
        text = re.sub(r"/opt/split-horizon-relay/venv/bin/[a-z-]+", "/bin/true", text)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_systemd_understands_the_units(units: Path) -> None:
    done = analyze("verify", "--man=no", *(f"./{name}" for name in UNITS), cwd=units)
    about_ours = [line for line in done.stderr.splitlines() if any(unit in line for unit in UNITS)]
    assert (done.returncode, about_ours) == (0, [])


@pytest.mark.parametrize(
    ("unit", "most"),  # tenths of systemd's exposure level
    [
        ("external-agent", 12),
        ("internal-puller", 20),
        ("internal-puller-run", 20),
        ("internal-puller-commands@", 20),
        ("internal-puller-mounts@", 12),
        ("internal-puller-recover", 12),
    ],
)
def test_the_units_are_hardened(units: Path, unit: str, most: int) -> None:
    done = analyze(
        "security", "--offline=true", f"--threshold={most}", f"./{unit}.service", cwd=units
    )
    assert done.returncode == 0, done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("unit", "capabilities"),
    [
        ("external-agent", ""),
        ("internal-puller", "CAP_CHOWN"),
        ("internal-puller-run", "CAP_CHOWN"),
    ],
)
def test_who_speaks_to_the_network_gets_past_no_mode(unit: str, capabilities: str) -> None:
    """In brief; tests/packages/test_confined.py finds out by trying."""
    text = (SYSTEMD / f"{unit}.service").read_text()
    held = re.findall(r"^(?:CapabilityBoundingSet|AmbientCapabilities)=(.*)$", text, re.MULTILINE)
    assert held == [capabilities, capabilities]
    for line in (
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "TemporaryFileSystem=/run:ro",
        "InaccessiblePaths=-/dev/pts -/dev/shm -/dev/mqueue -/dev/hugepages",
        "SystemCallFilter=~open_by_handle_at name_to_handle_at",
    ):
        assert f"\n{line}\n" in text


def test_those_that_stay_are_watched_and_the_timer_spreads_them() -> None:
    for name in ("external-agent.service", "internal-puller-run.service"):
        text = (SYSTEMD / name).read_text()
        assert "Type=notify\n" in text
        assert re.search(r"^WatchdogSec=\d+min$", text, re.MULTILINE), name
    timer = (SYSTEMD / "internal-puller.timer").read_text()
    assert "OnCalendar=hourly\nRandomizedDelaySec=55min\nFixedRandomDelay=yes\n" in timer
    assert "Persistent=true\n" in timer


def test_recovery_holds_no_boot_up_and_comes_before_every_server() -> None:
    text = (SYSTEMD / "internal-puller-recover.service").read_text()
    unit = dict(
        line.split("=", 1) for line in text.split("[Service]")[0].splitlines() if "=" in line
    )
    assert unit["DefaultDependencies"] == "no", "or it would come after basic.target itself"
    assert unit["Before"].split() == ["basic.target", "shutdown.target"]
    assert unit["After"].split() == ["local-fs.target", "internal-puller-commands.socket"]
    assert "Requires" not in unit and unit["Wants"] == "internal-puller-commands.socket"
    assert unit["ConditionDirectoryNotEmpty"] == "/var/lib/split-horizon-relay/puller/groups"
    for line in ("Type=oneshot", "TimeoutStartSec=30s", "PrivateNetwork=yes"):
        assert f"\n{line}\n" in text
    commands = (SYSTEMD / "internal-puller-commands@.service").read_text()
    assert "\nDefaultDependencies=no\n" in commands, "or it would wait for what waits for it"
    lines = [line for name in UNITS for line in (SYSTEMD / name).read_text().splitlines()]
    requiring = [line for line in lines if "internal-puller-recover" in line and line[0] != "#"]
    assert requiring == [], "nothing requires it"


def test_what_reads_mounts_can_do_nothing_else() -> None:
    text = (SYSTEMD / "internal-puller-mounts@.service").read_text()
    for line in (
        *("CapabilityBoundingSet=", "ProtectSystem=strict", "ProtectProc=default"),
        *("PrivateNetwork=yes", "NoNewPrivileges=yes"),
    ):
        assert f"\n{line}\n" in text
    assert "ReadWritePaths" not in text


def test_the_challenge_socket_has_the_name_the_agent_looks_for() -> None:
    text = (SYSTEMD / "external-agent-challenge.socket").read_text()
    assert "FileDescriptorName=challenge\n" in text
    assert re.findall(r"^ListenStream=(.*)$", text, re.MULTILINE) == ["0.0.0.0:80", "[::]:80"]


def test_the_pull_for_the_timer_and_the_one_that_stays_are_confined_alike() -> None:
    def sandbox(name: str) -> str:
        text = (SYSTEMD / name).read_text().split("\n[Install]")[0]
        return text[text.index("UMask=") :].strip()

    assert sandbox("internal-puller.service") == sandbox("internal-puller-run.service")


@pytest.mark.parametrize(
    ("program", "configuration"),
    [("systemd-sysusers", "sysusers.conf"), ("systemd-tmpfiles", "tmpfiles.conf")],
)
def test_accounts_and_directories(tmp_path: Path, program: str, configuration: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is missing (Debian: systemd)")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\nexternal-agent:x:991:991::/:/bin/false\n"
        "internal-puller:x:992:992::/:/bin/false\n"
    )
    (tmp_path / "etc" / "group").write_text(
        "root:x:0:\nexternal-agent:x:991:\ninternal-puller:x:992:\n"
    )
    extra = ["--create"] if program == "systemd-tmpfiles" else ["--dry-run"]
    done = subprocess.run(
        [program, f"--root={tmp_path}", *extra, str(SYSTEMD / configuration)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr if "ailed" in done.stderr else "") == (0, "")


MOST_LINES, MOST_IN_A_FUNCTION = 400, 60
KEPT_SHORT = ("internal_puller",)
"""Packages of which no file and no function is longer; what is long does more than one thing."""


@pytest.mark.parametrize("package", KEPT_SHORT)
def test_no_file_and_no_function_is_too_long_to_be_read(package: str) -> None:
    long = []
    for path in sorted((ROOT / package).rglob("*.py")):
        text, place = path.read_text(), path.relative_to(ROOT)
        lines = text.count("\n")
        if lines > MOST_LINES:
            long.append(f"{place}: {lines} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > MOST_IN_A_FUNCTION:
                    long.append(f"{place}: {node.name} has {lines} lines")
    assert long == []
