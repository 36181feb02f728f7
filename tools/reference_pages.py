"""Pages of docs/reference in Markdown, written from the code so that they cannot drift from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from tools.command_tree import Command, programs
from tools.markdown import table
from tools.settings_page import settings_lines

_ALWAYS = frozenset(
    (
        *("not-authenticated", "forbidden", "host-unknown", "invalid-request"),
        *("too-many-failures", "unavailable", "malformed-request", "body-too-large", "not-json"),
    )
)
_HEAD = "<!-- Written by tools/manuals; do not edit. -->\n"


def pages() -> dict[str, str]:
    """Return the text of each page by its file name."""
    return {
        "commands.md": commands(),
        "errors.md": errors(),
        "api.md": api(),
        "metrics.md": metrics(),
        "settings.md": _page(list(settings_lines())),
    }


def commands() -> str:
    """Every command of both programs with its options."""
    lines = ["# Commands", "", "As `--help` says it; results go to standard output."]
    for program, root in programs().items():
        lines += ["", f"## {program}", "", *root.help, "", root.epilog]
        if root.options:
            lines += ["", *_options(root)]
        for one in root.walk():
            if one.path and not one.commands:
                lines += ["", *_command(program, one)]
    return _page(lines)


def _command(program: str, one: Command) -> Iterator[str]:
    arguments = "".join(
        f" {argument.name.upper()}{'…' if argument.repeated else ''}"
        if argument.required
        else f" [{argument.name.upper()}{'…' if argument.repeated else ''}]"
        for argument in one.arguments
    )
    yield f"### `{program} {' '.join(one.path)}{arguments}`"
    yield ""
    yield "\n\n".join(one.help)
    told = [argument for argument in one.arguments if argument.help]
    if told or one.options:
        yield ""
        yield from _table(
            [
                *((f"`{argument.name.upper()}`", argument.help, "") for argument in told),
                *_option_rows(one),
            ]
        )


def _options(one: Command) -> Iterator[str]:
    yield from _table(_option_rows(one))


def _option_rows(one: Command) -> Iterator[tuple[str, str, str]]:
    for option in one.options:
        flags = ", ".join(option.flags)
        value = "" if option.takes == "nothing" else f" {option.placeholder}"
        variable = f" (`{option.variable}`)" if option.variable else ""
        yield f"`{flags}{value}`", f"{option.help}{variable}", option.default


def _table(rows: Iterable[tuple[str, str, str]]) -> Iterator[str]:
    yield from table(
        ("", "", "default"),
        ((left, middle, f"`{right}`" if right else "") for left, middle, right in rows),
    )


def errors() -> str:
    """The tree of errors, each with what it means and what to do."""
    from shared.contract.errors import RelayError

    lines = [
        "# Errors",
        "",
        "Every error that is raised on purpose, by its type, which receipts, events, metrics and",
        "problem documents name. *again* says whether trying the same again later can help. The",
        "exit code is that of a command that ends with it.",
        "",
    ]
    rows = (
        (f"`{kind.type}`", str(kind.exit_code), "yes" if kind.retry else "no", kind.means, kind.do)
        for kind in _tree(RelayError)
    )
    return _page([*lines, *table(("type", "exit", "again", "what it means", "what to do"), rows)])


def _tree(kind: Any) -> Iterator[Any]:
    yield kind
    for below in kind.__subclasses__():
        if below.__module__ == "shared.contract.errors":
            yield from _tree(below)


def api() -> str:
    """Every call of the operator API, from its OpenAPI document."""
    from external_agent.operator.app import operator_api
    from external_agent.operator.services import Services

    document = operator_api(Services(*[None] * 7)).openapi()  # type: ignore[arg-type]
    lines = [
        "# Calls of the operator API",
        "",
        "How to ask is in [api.md](../api.md); the whole contract, with schemas and examples, is",
        "the document that the agent gives: `/openapi.json`. Any call may also be refused by",
        ", ".join(f"`{slug}`" for slug in sorted(_ALWAYS)) + ".",
        "",
    ]
    rows = []
    for path, calls in document["paths"].items():
        for method, call in calls.items():
            slugs = sorted(
                {
                    slug
                    for status, said in call["responses"].items()
                    if status[0] in "45"
                    for content in said.get("content", {}).values()
                    for slug in content.get("examples", {})
                    if slug not in _ALWAYS
                }
            )
            what = " ".join(str(call.get("description", "")).split("\n\n", 1)[0].split())
            refusals = ", ".join(f"`{slug}`" for slug in slugs)
            rows.append((f"`{method.upper()} {path}`", str(call.get("x-role", "")), what, refusals))
    return _page([*lines, *table(("call", "role", "does", "refusals"), rows)])


def metrics() -> str:
    """Every family of metrics of the agent and of a puller, with its help text."""
    from external_agent.present.metrics.metrics import Metrics
    from internal_puller.facts.textfile import ABOUT

    text = Metrics().render((), (), 0).decode()
    rows = []
    for line in text.splitlines():
        if line.startswith("# HELP "):
            name, _, about = line.removeprefix("# HELP ").partition(" ")
            if not name.endswith("_created"):
                rows.append((name, about))
    lines = [
        "# Metrics",
        "",
        "By the conventions of Prometheus; labels and rules are in",
        "[operations](../operations.md#monitoring).",
        "",
        *table(
            ("of the agent, `/metrics`", "is"),
            ((f"`{name}`", about) for name, about in sorted(rows)),
        ),
        "",
        *table(
            ("of a puller, `metrics_file`", "is"),
            ((f"`{name}`", about) for name, about in sorted(ABOUT.items())),
        ),
    ]
    return _page(lines)


def _page(lines: list[str]) -> str:
    return _HEAD + "\n".join(lines).rstrip() + "\n"
