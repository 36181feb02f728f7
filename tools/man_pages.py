"""Man pages in roff: one for each program, with all its commands."""

from __future__ import annotations

import re

from tools.command_tree import Argument, Command, Option

_SIDES = {"external-agent": "agent", "internal-puller": "puller"}
_FILES = {
    "external-agent": (
        ("/etc/split-horizon-relay/agent.toml", "The settings, with comments."),
        ("/var/lib/split-horizon-relay/agent", "Keys and database; mode 0700."),
    ),
    "internal-puller": (
        ("/etc/split-horizon-relay/puller.toml", "The settings; none are needed."),
        ("/etc/split-horizon-relay/targets.toml", "The targets; written by target add."),
        ("/etc/split-horizon-relay/direct.toml", "Certificates of direct mode."),
        ("/etc/split-horizon-relay/tls", "Where certificates are installed, unless a target says."),
        ("/var/lib/split-horizon-relay/puller", "Keys and progress; mode 0700."),
    ),
}
_CODE = re.compile(r"(\d+) ([^,;]+(?:\([^)]*\))?)")


def man_page(program: str, root: Command, release: str) -> str:
    """Return ``PROGRAM.1``.

    Args:
        release: of the software; the page has no date, so that it is the same every day.
    """
    (other,) = set(_SIDES) - {program}
    lines = [
        '.\\" Written by tools/manuals from the commands of the program; do not edit.',
        f'.TH {program.upper()} 1 "" "split-horizon-relay {release}" "split-horizon-relay"',
        ".SH NAME",
        f"{_text(program)} \\- {_text(_uncapitalised(root.short))}",
        ".SH SYNOPSIS",
        ".nh",
        f".B {_text(program)}",
        f"{_usage_options(root.options)}\\fICOMMAND\\fR [\\fIOPTIONS\\fR] [\\fIARGUMENTS\\fR]",
        ".hy",
        ".SH DESCRIPTION",
        *(_text(part) + "\n.PP" for part in root.help),
        "Results go to standard output, explanations to standard error.",
        f".B {_text(program)} \\fICOMMAND\\fB \\-\\-help",
        "says the same as this page about one command.",
        ".SH OPTIONS",
        *_options(root.options),
        ".SH COMMANDS",
    ]
    for one in root.walk():
        if one.path and not one.commands:
            lines += _command(program, one)
    lines += [".SH ENVIRONMENT"]
    for option in root.options:
        if option.variable:
            lines += [".TP", f".B {_text(option.variable)}", f"As {_bold(option.flags[0])}."]
    prefix = "RELAY_AGENT_" if program == "external-agent" else "RELAY_PULLER_"
    lines += [
        ".TP",
        f".BI {_text(prefix)} NAME",
        "A setting of the settings file, in capital letters; it goes before the file.",
        ".SH FILES",
    ]
    for path, about in _FILES[program]:
        lines += [".TP", f".I {_text(path)}", _text(about)]
    lines += [".SH EXIT STATUS", *_exit_codes(root.epilog)]
    lines += [
        ".SH SEE ALSO",
        f".BR {_text(other)} (1),",
        ".BR systemctl (1)",
        ".PP",
        "docs/operations.md of the distribution is the whole handbook.",
    ]
    return "\n".join(lines) + "\n"


def _command(program: str, one: Command) -> list[str]:
    usage = "".join(f" {_usage_argument(argument)}" for argument in one.arguments)
    synopsis = f"{_bold(' '.join((program, *one.path)))} {_usage_options(one.options)}{usage}"
    lines = [f".SS {_text(' '.join(one.path))}", ".nh", re.sub(r" +", " ", synopsis), ".hy"]
    for part in one.help:
        lines += [".PP", _text(part)]
    for argument in one.arguments:
        lines += [".TP", f"\\fI{_text(argument.name.upper())}\\fR", _text(argument.help)]
    return [*lines, *_options(one.options)]


def _options(options: tuple[Option, ...]) -> list[str]:
    lines = []
    for option in options:
        flags = ", ".join(_bold(flag) for flag in option.flags)
        value = "" if option.takes == "nothing" else f" \\fI{option.placeholder}\\fR"
        about = option.help
        if option.default:
            about += f" [default: {option.default}]"
        if option.required:
            about += " [required]"
        lines += [".TP", flags + value, _text(about)]
    return lines


def _usage_options(options: tuple[Option, ...]) -> str:
    shown = []
    for option in options:
        value = "" if option.takes == "nothing" else f" \\fI{option.placeholder}\\fR"
        text = f"{_bold(option.flags[0])}{value}"
        shown.append(text if option.required else f"[{text}]")
        if option.repeated:
            shown[-1] += "..."
    return " ".join(shown) + (" " if shown else "")


def _usage_argument(argument: Argument) -> str:
    text = f"\\fI{_text(argument.name.upper())}\\fR" + ("..." if argument.repeated else "")
    return text if argument.required else f"[{text}]"


def _exit_codes(epilog: str) -> list[str]:
    lines = []
    told = epilog.removeprefix("Exit codes: ").partition(";")
    for code, meaning in _CODE.findall(told[0]):
        lines += [".TP", f".B {code}", _text(meaning.strip())]
    rest = told[2].strip().rstrip(".")
    return [*lines, *([".PP", _text(rest[0].upper() + rest[1:] + ".")] if rest else [])]


def _uncapitalised(text: str) -> str:
    return text[0].lower() + text[1:].rstrip(".")


def _bold(text: str) -> str:
    return f"\\fB{_text(text)}\\fR"


def _text(text: str) -> str:
    """Escape for roff; a line may not begin like a request."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("…", "...").replace("'", "\\(aq")
    return f"\\&{text}" if text.startswith(".") else text
