"""What the pages say about commands, settings, codes, files and tests is what there is."""

from __future__ import annotations

import ast
import dataclasses
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import BaseModel

import external_agent.cli
import internal_puller.commands.app
from external_agent.settings.config import Settings as AgentSettings
from external_agent.settings.config import known_settings
from internal_puller.outbox import outcome
from internal_puller.settings import targets_file
from internal_puller.settings.config import Settings as PullerSettings
from internal_puller.settings.presets.catalogue import NAMES as PRESETS
from internal_puller.settings.targets import FORMATS
from shared.acme.dns01.settings import section_fields
from shared.contract import errors
from tests.breakages.page import named_tests, promises

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
OPERATIONS = DOCS / "operations.md"
PROGRAMS: dict[str, Any] = {
    "external-agent": external_agent.cli.app,
    "internal-puller": internal_puller.commands.app.app,
}


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", [ROOT / "README.md", OPERATIONS], ids=named)
def test_the_account_is_there_before_root_makes_files_for_it(page: Path) -> None:
    """Else what `pull` has put in place is root's, and the service cannot renew it."""
    found = 0
    for section in re.split(r"^#+ ", page.read_text(), flags=re.MULTILINE):
        account = section.find("systemd-sysusers /")
        first = re.search(r"^(internal-puller enroll|external-agent init)", section, re.MULTILINE)
        if first is not None and account >= 0:
            found += 1
            assert account < section.find("systemd-tmpfiles --create") < first.start(), section[:40]
    assert found == 2


# --- links ------------------------------------------------------------------------------------

_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


@cache
def anchors(page: Path) -> frozenset[str]:
    """Headings as a forge turns them into anchors."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", page.read_text()), re.MULTILINE)
    return frozenset(
        re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings
    )


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in _LINK.findall(_FENCE.sub("", page.read_text())):
        if "://" in link or link.startswith("mailto:"):
            continue
        path, _, anchor = link.partition("#")
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            broken.append(link)
    assert broken == []


# --- commands ---------------------------------------------------------------------------------


def in_blocks(text: str) -> Iterator[str]:
    """Command lines of fenced blocks, with their continuations, without comments."""
    for block in _FENCE.findall(text):
        for line in re.sub(r"\\\n\s*", " ", block).splitlines():
            command = re.sub(r"\s+#.*", "", line.strip())
            if command.startswith(tuple(f"{program} " for program in PROGRAMS)):
                yield command


def in_text(text: str) -> Iterator[str]:
    """Command lines that the text names; they may lack what they are about."""
    programs = "|".join(PROGRAMS)
    for found in re.findall(rf"`((?:{programs}) [^`]+)`", _FENCE.sub("", text)):
        if "…" not in found and "--help" not in found:
            yield " ".join(found.split())


def parse(line: str) -> None:
    """Let the command line read ``line`` as it would, and do nothing."""
    program, *rest = shlex.split(line)
    command: Any = typer.main.get_command(PROGRAMS[program])
    context = command.make_context(program, rest)
    while hasattr(command, "resolve_command"):
        rest = [*context._protected_args, *context.args]
        if not rest and command.invoke_without_command:
            return
        name, command, rest = command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)


COMMANDS = sorted({line for page in PAGES for line in in_blocks(page.read_text())})
MENTIONED = sorted({line for page in PAGES for line in in_text(page.read_text())})


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_can_be_typed(line: str) -> None:
    parse(line)


@pytest.mark.parametrize("line", MENTIONED)
def test_every_command_that_is_mentioned_exists(line: str) -> None:
    try:
        parse(line)
    except Exception as error:
        if type(error).__name__ != "MissingParameter":
            raise


def test_a_wrong_command_is_noticed() -> None:
    for line in ("external-agent status --jsn", "internal-puller pull x", "internal-puller fetch"):
        with pytest.raises(Exception, match=r"(?i)no such|unexpected"):
            parse(line)


# --- tables -----------------------------------------------------------------------------------


def table(page: Path, title: str) -> list[list[str]]:
    """Rows of the table under ``<!-- title -->``, without its head."""
    rest = page.read_text().split(f"<!-- {title} -->\n", 1)[1]
    lines = rest.split("\n\n", 1)[0].strip().splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def first_column(title: str) -> list[str]:
    return [row[0].strip("`") for row in table(OPERATIONS, title)]


def codes(program: str) -> set[int]:
    return {int(code) for code in first_column(f"exit codes of {program}")}


def subclasses(kind: type[errors.RelayError]) -> Iterator[type[errors.RelayError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from subclasses(below)


@pytest.mark.parametrize("program", PROGRAMS)
def test_exit_codes_are_those_of_the_help(program: str) -> None:
    epilog = typer.main.get_command(PROGRAMS[program]).epilog or ""
    told = {int(code) for code in re.findall(r"\b\d+\b", epilog)}
    assert codes(program) == told | {errors.EXIT_UNEXPECTED}


def test_every_exit_code_is_explained() -> None:
    tree = {kind.exit_code for kind in subclasses(errors.RelayError)}
    others = {errors.EXIT_OK, errors.EXIT_UNEXPECTED, errors.EXIT_USAGE, outcome.EXIT_EXPIRING}
    assert codes("external-agent") | codes("internal-puller") == tree | others


def test_the_worst_code_comes_first() -> None:
    order = re.search(r"in the order ([\d, ]+)\.", OPERATIONS.read_text())
    assert order is not None
    assert [int(code) for code in order[1].split(",")] == [
        code for code in outcome.WORST_FIRST if code in codes("internal-puller")
    ]


def fields(section: type) -> Iterator[tuple[str, object, object]]:
    """Name, type and default of what a section has; sections are models or plain records."""
    if issubclass(section, BaseModel):
        for name, field in section.model_fields.items():
            yield name, field.annotation, None if field.is_required() else field.default
        return
    kinds = section_fields(section)
    for one in dataclasses.fields(section):  # type: ignore[arg-type]
        yield one.name, kinds[one.name], None if one.default is dataclasses.MISSING else one.default


def defaults(section: type, above: str = "") -> Iterator[tuple[str, object]]:
    for name, kind, default in fields(section):
        if isinstance(kind, type) and (
            issubclass(kind, BaseModel) or dataclasses.is_dataclass(kind)
        ):
            yield from defaults(kind, f"{above}{name}.")
        elif default not in ("", None, (), frozenset(), {}):
            yield above + name, default


def shown(default: object) -> list[str]:
    values = default if isinstance(default, tuple) else (default,)
    return [str(value).lower() if isinstance(value, bool) else str(value) for value in values]


def test_settings_of_the_agent() -> None:
    rows = {row[0].strip("`"): row[1] for row in table(OPERATIONS, "settings of the agent")}
    assert list(rows) == known_settings()
    said_in_words = {"acme.directory"}
    for name, default in defaults(AgentSettings):
        if name not in said_in_words:
            assert all(text in rows[name] for text in shown(default)), name


def test_settings_of_the_puller() -> None:
    rows = {row[0].strip("`"): row[1] for row in table(OPERATIONS, "settings of the puller")}
    assert list(rows) == [field.name for field in dataclasses.fields(PullerSettings)]
    for field in dataclasses.fields(PullerSettings):
        if isinstance(field.default, bool | float):
            assert all(text in rows[field.name] for text in shown(field.default)), field.name


def test_settings_of_a_target() -> None:
    rows = table(OPERATIONS, "settings of a target")
    known = {*targets_file._REQUIRED, *targets_file._OPTIONAL}
    assert {row[0].strip("`") for row in rows} == known
    group: Any = typer.main.get_command(PROGRAMS["internal-puller"])
    add = group.commands["target"].commands["add"]
    options = {name for option in add.params for name in option.opts if name.startswith("--")}
    assert {row[1].strip("`") for row in rows} - {"argument", "–"} == options
    text = OPERATIONS.read_text()
    assert all(f"`{name}`" in text for name in (*PRESETS, *FORMATS))


def test_variables_of_commands() -> None:
    given = re.findall(
        r'"(RELAY_\w+)":', (ROOT / "internal_puller/install/variables.py").read_text()
    )
    assert sorted(re.findall(r"^\| `(RELAY_\w+)` \|", OPERATIONS.read_text(), re.MULTILINE)) == (
        sorted(given)
    )


def test_metrics() -> None:
    sources = (
        "external_agent/present/metrics/metrics.py",
        "external_agent/present/metrics/metric_families.py",
    )
    source = "".join(
        (ROOT / one).read_text() for one in (*sources, "internal_puller/facts/textfile.py")
    )
    ours = {name.removesuffix("_total") for name in re.findall(r'"(relay_\w+)"', source)}
    told = re.findall(r"^\| `(relay_\w+)` \|", OPERATIONS.read_text(), re.MULTILINE)
    assert {name.removesuffix("_total") for name in told} == ours


# --- tests that are named ---------------------------------------------------------------------


@cache
def functions_of(path: Path) -> frozenset[str]:
    return frozenset(
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_named_test_exists(page: Path) -> None:
    for test in named_tests(page.read_text()):
        assert (ROOT / test.path).is_file(), test.path
        assert not test.name or test.name in functions_of(ROOT / test.path), test.node


def test_every_promise_names_its_tests() -> None:
    assert list(promises()) == list(range(1, len(promises()) + 1))
    assert len(promises()) >= 26
    for promise in promises().values():
        assert [test.name for test in promise.tests if test.name], promise.number
        assert len(set(promise.tests)) == len(promise.tests), promise.number
