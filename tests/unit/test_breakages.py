"""tests/breakages: every breakage fits the code, children import the copy, verdicts are honest."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator

import psutil
import pytest

from tests.breakages import __main__ as program
from tests.breakages.copy import WRONG_PROJECT, Copy
from tests.breakages.every import BREAKAGES, LEAST, WITHOUT_CODE, sample
from tests.breakages.model import LONGEST_NAME, Breakage, Unusable
from tests.breakages.page import ROOT, promises
from tests.breakages.trial import Sound, Verdict, Word, attempt, in_order
from tests.line import wait_until

SEAL = next(one for one in BREAKAGES if one.promise == 3)


# --- the list ---------------------------------------------------------------------------------


@pytest.mark.parametrize("breakage", BREAKAGES, ids=lambda one: f"{one.promise} {one.name}")
def test_every_breakage_fits_the_code_and_the_page(breakage: Breakage) -> None:
    """Who changes such a line fits the breakage to the new one."""
    assert breakage.apply(ROOT) != (ROOT / breakage.file).read_text("utf-8")
    assert in_order(breakage)[0].name == breakage.seen_by
    assert len(breakage.name) <= LONGEST_NAME
    assert breakage.file.split("/")[0] in ("external_agent", "internal_puller", "shared", "deploy")


def test_every_promise_has_its_breakages_or_no_code() -> None:
    count = Counter(one.promise for one in BREAKAGES)
    assert set(count) | set(WITHOUT_CODE) == set(promises())
    assert set(count) & set(WITHOUT_CODE) == set()
    assert [number for number, how_many in count.items() if how_many < LEAST] == []
    assert len({(one.promise, one.name) for one in BREAKAGES}) == len(BREAKAGES)


def test_the_sample_is_always_the_same_and_quick() -> None:
    assert sample() == sample()
    assert len(sample()) >= 8
    for one in sample():
        assert in_order(one)[0].path.startswith("tests/unit/"), one.name


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"old": "no such text"}, "found 0 times"),
        ({"old": "\n"}, "not once"),
        ({"file": "shared/gone.py"}, "does not exist"),
        ({"new": "    if (\n"}, "not Python"),
        ({"seen_by": "test_unheard_of"}, "does not name the test"),
        ({"promise": 99}, "no promise 99"),
    ],
)
def test_what_does_not_fit_is_said(changes: dict[str, object], words: str) -> None:
    odd = dataclasses.replace(SEAL, **changes)
    with pytest.raises(Unusable, match=words):
        in_order(odd)
        odd.apply(ROOT)


# --- the command line -------------------------------------------------------------------------


def say(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str
) -> tuple[int | str | None, list[str]]:
    monkeypatch.setattr(sys, "argv", ["breakages", *words])
    try:
        code: int | str | None = program.main()
    except SystemExit as ended:
        code = ended.code
    return code, capsys.readouterr().out.splitlines()


def test_the_list_has_one_line_for_each(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, lines = say(monkeypatch, capsys, "--list")
    assert (code, len(lines)) == (0, len(BREAKAGES))
    assert max(map(len, lines)) <= 80
    code, lines = say(monkeypatch, capsys, "--list", "--promise", "3", "--name", "certificate")
    assert lines == [" 3  a seal does not cover the certificate"]
    code, _ = say(monkeypatch, capsys, "--name", "nothing of this name")
    assert "No breakage fits" in str(code)


@pytest.mark.parametrize("word", Word)
def test_the_last_line_counts_and_the_status_follows(
    word: Word, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def tried(chosen: list[Breakage], jobs: int) -> Iterator[tuple[Breakage, Verdict, float]]:
        yield from ((one, Verdict(word, "tests/x.py::test_it"), 1.0) for one in chosen)

    monkeypatch.setattr(program, "_tried", tried)
    monkeypatch.setattr(program, "_run_by_the_locked_packages", lambda: None)
    code, lines = say(monkeypatch, capsys, "--promise", "3")
    missed = 0 if word is Word.KILLED else 4
    assert (code, lines[-1]) == (bool(missed), f"4 breakages, {missed} survived")
    assert all(len(line) <= 80 for line in lines)
    assert sum(line.startswith(word) for line in lines) == 4


# --- the copy ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    return Copy(tmp_path_factory.mktemp("copy"))


_STARTED_BY_THE_TESTS = """
import os, pathlib, sys
from tests import preloaded
streams = (0, 1, 2)
started = preloaded.start(
    "external_agent", ["--version"], environment=dict(os.environ), directory=pathlib.Path("/"),
    streams=streams,
)
sys.exit(started.wait(60))
"""


_WITHOUT_ENVIRONMENT = """
import os, sys
os.execve(sys.executable, [sys.executable, "-m", "external_agent"], {})
"""


@pytest.mark.lab
@pytest.mark.parametrize(
    "words",
    [
        ("-m", "external_agent", "--version"),
        ("-P", "-m", "external_agent", "--version"),
        ("-c", "from external_agent.cli import main; main()"),
        ("-I", "-c", "from external_agent.cli import main; main()"),
        ("-c", _STARTED_BY_THE_TESTS),
        ("-c", "import os; os.execvp('external-agent', ['external-agent', '--version'])"),
        ("-c", "import os; os.execvp('python3', ['python3', '-m', 'external_agent'])"),
        ("-c", _WITHOUT_ENVIRONMENT),
    ],
)
@pytest.mark.parametrize("directory", ["", "/"])
def test_children_run_what_is_broken(copy: Copy, words: tuple[str, ...], directory: str) -> None:
    """The installed project leads to the checkout: whoever found it would see nothing broken."""
    broken = Breakage(
        3,
        "main() does something else",
        "external_agent/cli.py",
        "    try:\n        app(args=",
        "    raise SystemExit(43)\n    try:\n        app(args=",
        "",
    )
    with copy.broken(broken):
        done = subprocess.run(
            [copy.python, *words],
            cwd=directory or copy.root,
            env=copy.variables | ({"PYTHONPATH": str(copy.root)} if "tests" in words[1] else {}),
            check=False,
        )
    assert done.returncode == 43


@pytest.mark.lab
def test_a_child_that_would_import_the_checkout_refuses_to_run(copy: Copy) -> None:
    done = subprocess.run(
        [copy.python, "-c", "print('here')"],
        env=copy.variables | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (WRONG_PROJECT, "")
    assert str(copy.root) in done.stderr


@pytest.mark.lab
def test_the_checkout_is_left_alone_and_the_copy_is_put_back(copy: Copy) -> None:
    before = (ROOT / SEAL.file).stat(), (copy.root / SEAL.file).read_bytes()
    with copy.broken(SEAL):
        assert (copy.root / SEAL.file).read_bytes() != before[1]
    after = (ROOT / SEAL.file).stat(), (copy.root / SEAL.file).read_bytes()
    assert (after[0].st_mtime_ns, after[0].st_ino, after[1]) == (
        before[0].st_mtime_ns,
        before[0].st_ino,
        before[1],
    )


def is_running(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@pytest.mark.lab
def test_nothing_of_a_run_is_left_behind(copy: Copy) -> None:
    """Also when a child that is left over still holds the output."""
    script = (
        "import subprocess, sys; "
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); "
        "print(p.pid)"
    )
    done = copy.run("-c", script, seconds=60)
    wait_until(lambda: not is_running(int(done.stdout)))
    with pytest.raises(Unusable, match="not done after"):
        copy.run("-c", "import time; time.sleep(600)", seconds=0.5)


# --- verdicts ---------------------------------------------------------------------------------

_BAD = (Word.UNUSABLE, "cannot be imported")


@pytest.mark.lab
@pytest.mark.parametrize(
    ("new", "word", "why"),
    [
        (SEAL.new, Word.KILLED, "test_what_is_sealed_opens_for_the_same_context_only"),
        (SEAL.old + "            # here\n", Word.SURVIVED, ""),
        ("        if True:\n            import gone\n", Word.KILLED, "test_"),
        (
            f"{SEAL.old}            pass\n\n    import gone\n\n    def x():\n        if 1:\n",
            *_BAD,
        ),
    ],
)
def test_verdicts(copy: Copy, new: str, word: Word, why: str) -> None:
    verdict = attempt(dataclasses.replace(SEAL, new=new), copy, Sound())
    assert verdict.word is word, verdict
    assert why in verdict.by


@pytest.mark.lab
def test_a_test_that_fails_anyhow_is_no_proof(copy: Copy) -> None:
    sound = Sound()
    path = copy.root / "tests/unit/shared/contract/test_keys.py"
    whole = path.read_text()
    name = SEAL.seen_by
    path.write_text(f"{whole}\n\ndef {name}() -> None:\n    raise AssertionError\n")
    try:
        verdict = attempt(SEAL, copy, sound)
    finally:
        path.write_text(whole)
    assert (verdict.word, "with nothing broken" in verdict.by) == (Word.UNUSABLE, True)
