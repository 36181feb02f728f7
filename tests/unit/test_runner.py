"""tests/run: each test in one part, honest counts, and nothing left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from itertools import chain, combinations
from pathlib import Path
from typing import TextIO

import pytest

from tools import environment, runner
from tools.parts import INCOMPLETE, MARKS, PARTS, Need, Part, places
from tools.results import Result, read_junit, summary

ROOT = Path(__file__).resolve().parents[2]
REPORT = """<testsuites><testsuite>
<testcase name="a"/><testcase name="b"/>
<testcase name="c"><failure message="no"/></testcase>
<testcase name="d"><error message="no"/></testcase>
<testcase name="e"><skipped type="pytest.skip" message="nginx is missing"/></testcase>
<testcase name="f"><skipped type="pytest.skip" message="nginx is missing"/></testcase>
<testcase name="g"><skipped type="pytest.xfail" message="known"/></testcase>
</testsuite></testsuites>"""


def script(tmp_path: Path, text: str, **settings: object) -> tuple[Part, list[str]]:
    """A part whose command is a small program."""
    path = tmp_path / "program.py"
    path.write_text(text)
    return Part("it", "about it", command=("x",), **settings), [sys.executable, str(path)]  # type: ignore[arg-type]


def test_every_combination_of_marks_belongs_to_exactly_one_part() -> None:
    marked = [part for part in PARTS if part.mark]
    sizes = range(len(MARKS) + 1)
    for carried in chain.from_iterable(combinations(MARKS, size) for size in sizes):
        names = {mark: mark in carried for mark in MARKS}
        owners = [part.name for part in marked if eval(part.mark, {}, names)]
        assert len(owners) == 1, (carried, owners)


def test_counts_come_from_the_report(tmp_path: Path) -> None:
    (tmp_path / "report.xml").write_text(REPORT)
    result = Result("servers")
    read_junit(tmp_path / "report.xml", result)
    assert (result.passed, result.failed, result.skipped) == (3, 2, 2)
    assert result.skips == Counter({"nginx is missing": 2})


def test_the_last_line_is_the_totals_and_what_did_not_run_is_named() -> None:
    text = summary(
        [
            Result("unit", passed=5),
            Result("servers", passed=2, skips=Counter({"haproxy is missing": 3})),
            Result("topology", ran=False, missing=["root"]),
        ]
    )
    assert text.splitlines()[-1] == "7 passed, 0 failed, 4 skipped"
    assert "!!! topology: missing here: root" in text
    assert "!!! servers: 3 skipped: haproxy is missing" in text


@pytest.mark.parametrize(("ci", "failed"), [(False, 0), (True, 1)])
def test_a_missing_peer_is_a_failure_only_in_ci(tmp_path: Path, ci: bool, failed: int) -> None:
    absent = (Need("a peer", lambda: False),)
    part, command = script(tmp_path, "raise SystemExit('was run')", needs=absent)
    result = runner._judge(part, command, tmp_path, ci=ci)
    assert (result.ran, result.failed, result.missing) == (False, failed, ["a peer"])


def test_two_at_a_time_each_says_its_own(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """One waits for what another makes, so they are at work together; the long ones are first."""
    texts = {
        "first": "while not pathlib.Path('made').exists(): time.sleep(0.01)\nprint('first ends')",
        "second": "pathlib.Path('made').touch(); print('second ends'); sys.exit(1)",
        "third": "print('third ends')",
    }
    parts = [
        Part(name, name, mark="x", seconds=seconds)
        for seconds, name in enumerate(reversed(texts), 60)
    ]
    started = []

    def judge(part: Part, output: TextIO) -> Result:
        started.append(part.name)
        program = "import os, pathlib, sys, time; print('own', sys.argv[1].partition('=')[2])"
        program += f"\nos.chdir({str(tmp_path)!r})\n{texts[part.name]}"
        command = [sys.executable, "-c", program]
        return runner._judge(part, command, tmp_path, ci=False, output=output)

    results = {one.name: one.failed for one in runner._two_at_a_time(parts, judge)}
    assert results == {"first": 0, "second": 1, "third": 0}
    assert started[2] == "third"
    shown = capfd.readouterr().out.split("##########")
    assert all(f"{name} ends" in text for name in texts for text in shown if f" {name}:" in text)
    assert len(shown) == 1 + len(texts)
    own = {line.split()[1] for text in shown for line in text.splitlines() if line[:4] == "own "}
    assert len(own) == 3, "each has a place of its own"
    assert not any(Path(place).parent.exists() for place in own)


@pytest.mark.parametrize(
    ("needs", "pointless"),
    [
        ([(True, False), (False, False)], False),
        ([(False, False), (False, False)], True),
        ([(True, False), (False, True)], True),
        ([(True, True)], False),
    ],
)
def test_a_part_runs_while_something_of_it_can(
    needs: list[tuple[bool, bool]], pointless: bool
) -> None:
    def need(here: bool, blocks: bool) -> Need:
        return Need("peer", lambda: here, blocks)

    part = Part("it", "about it", needs=tuple(need(*each) for each in needs))
    assert part.pointless(part.missing()) is pointless


def test_an_incomplete_command_passes_with_a_note(tmp_path: Path) -> None:
    part, command = script(tmp_path, f"raise SystemExit({INCOMPLETE})", incomplete="no audit")
    result = runner._judge(part, command, tmp_path, ci=True)
    assert (result.passed, result.failed, result.notes) == (1, 0, ["no audit"])
    assert "!!! it: no audit" in summary([result])


@pytest.mark.lab
@pytest.mark.parametrize("options", [("--together",), ()])
def test_interrupted_it_begins_nothing_more(tmp_path: Path, options: tuple[str, ...]) -> None:
    """Ctrl-C ends the parts at hand, and no other begins."""
    text = f"""
import pathlib, signal, sys
from tools import environment, runner
from tools.parts import Part

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
say = "import pathlib, time; pathlib.Path({str(tmp_path)!r}, '%s').touch(); time.sleep(60)"
runner.environment.ensure = lambda: pathlib.Path(sys.executable)
runner.PARTS = tuple(Part(name, name, command=(sys.executable, "-c", say % name)) for name in "abc")
sys.exit(runner.main())
"""
    with subprocess.Popen(
        [sys.executable, "-c", text, *options], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        deadline = time.monotonic() + 60
        begun = 2 if options else 1
        while len(list(tmp_path.iterdir())) < begun and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said.count("interrupted") == begun == len(list(tmp_path.iterdir())), said


@pytest.mark.lab
def test_a_part_that_hangs_fails_and_leaves_no_process(tmp_path: Path) -> None:
    child = "import subprocess, sys, pathlib, time\n"
    child += "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
    child += f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(p.pid))\n"
    part, command = script(tmp_path, child + "time.sleep(600)\n", seconds=2)
    result = runner._judge(part, command, tmp_path, ci=False)
    assert (result.failed, result.why) == (1, "was not done after 2 s")
    grandchild = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and _alive(grandchild):
        time.sleep(0.01)
    assert not _alive(grandchild)


def _alive(process: int) -> bool:
    try:
        return b") Z " not in Path(f"/proc/{process}/stat").read_bytes()
    except OSError:
        return False


def test_an_environment_that_is_a_link_is_not_emptied(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "kept").touch()
    (tmp_path / "link").symlink_to(other)
    with pytest.raises(environment.EnvironmentFailed, match="symbolic link"):
        environment.ensure(environment.Environment(tmp_path / "link", (), with_project=False))
    assert (other / "kept").exists()


def test_parts_run_without_foreign_roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere")
    text = "import os, sys\nsys.exit('SSL_CERT_FILE' in os.environ or sys.stdin.read() != '')"
    part, command = script(tmp_path, text)
    assert runner._judge(part, command, tmp_path, ci=False).passed == 1
    assert os.environ["SSL_CERT_FILE"] == "/nowhere"


def test_a_part_reads_every_file_that_holds_its_tests(tmp_path: Path) -> None:
    """And no mark comes from elsewhere than a test file or a conftest.py."""
    for name, text in {
        "unit/test_one.py": "@pytest.mark.pebble\n",
        "unit/test_two.py": "",
        "core/conftest.py": "marks=pytest.mark.pebble\n",
        "core/deep/test_three.py": "",
    }.items():
        path = tmp_path / "tests" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    by_name = {part.name: part for part in PARTS}
    assert places(by_name["pebble"], tmp_path) == ["tests/core", "tests/unit/test_one.py"]
    assert places(by_name["unit"], tmp_path) == []
    given = re.compile(rf"mark\.({'|'.join(MARKS)})\b")
    elsewhere = [
        path
        for path in (ROOT / "tests").rglob("*.py")
        if not path.name.startswith("test_") and path.name != "conftest.py"
    ]
    assert [path for path in elsewhere if given.search(path.read_text())] == []
