"""Completion for bash, zsh and fish, written out: no key press starts Python."""

from __future__ import annotations

import shlex

from tools.command_tree import Command, Option

_HELP = "--help"


def bash(program: str, root: Command) -> str:
    """Return the script for ``/usr/share/bash-completion/completions``."""
    name = program.replace("-", "_")
    steps, offers, values = [], [], []
    for one in root.walk():
        at = " ".join(one.path)
        steps += [f"{at}:{below.name}" for below in one.commands]
        flags = [flag for option in one.options for flag in option.flags]
        offers.append(
            f"        {shlex.quote(at)})"
            f" words={shlex.quote(' '.join(below.name for below in one.commands))}"
            f" options={shlex.quote(' '.join([*flags, _HELP]))}"
            f" files={'yes' if any(a.takes == 'file' for a in one.arguments) else ''} ;;"
        )
        for option in one.options:
            if option.takes != "nothing":
                keys = "|".join(shlex.quote(f"{at}:{flag}") for flag in option.flags)
                what = "-file-" if option.takes == "file" else " ".join(option.choices)
                values.append(f"        {keys}) value={shlex.quote(what)} ;;")
    known = "|".join(shlex.quote(step) for step in steps)
    return f"""\
# Written by tools/manuals from the commands of {program}; do not edit.
_{name}() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} at= words= options= files= value= word i
    COMPREPLY=()
    _{name}_value() {{
        value=-none-
        case "$at:$1" in
{chr(10).join(values)}
        *) return 1 ;;
        esac
    }}
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${{COMP_WORDS[i]}}
        if _{name}_value "$word"; then
            ((i++))
            continue
        fi
        case "$at:$word" in
        {known}) at=${{at:+$at }}$word ;;
        esac
    done
    if _{name}_value "${{COMP_WORDS[COMP_CWORD - 1]}}"; then
        if [[ $value == -file- ]]; then
            compopt -o filenames 2>/dev/null
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        else
            mapfile -t COMPREPLY < <(compgen -W "$value" -- "$cur")
        fi
        return
    fi
    case "$at" in
{chr(10).join(offers)}
    esac
    if [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur")
    elif [[ -n $words ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
    elif [[ -n $files ]]; then
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
    fi
}}
complete -F _{name} {program}
"""


def zsh(program: str, root: Command) -> str:
    """Return the script for ``/usr/share/zsh/vendor-completions``."""
    functions = [_zsh_function(program, one) for one in root.walk()]
    return (
        f"#compdef {program}\n"
        + f"# Written by tools/manuals from the commands of {program}; do not edit.\n\n"
        + "\n".join(functions)
        + f'\nif [[ ${{funcstack[1]}} == _{program} ]]; then\n    _{program}_main "$@"\n'
        + f"else\n    compdef _{program}_main {program}\nfi\n"
    )


def _zsh_name(program: str, path: tuple[str, ...]) -> str:
    return "_".join(("", program, "main", *path))


def _zsh_function(program: str, one: Command) -> str:
    specs = [spec for option in one.options for spec in _zsh_option(option)]
    specs.append(f"'{_HELP}[Show what it does and takes.]'")
    if one.commands:
        specs += ["'1: :->command'", "'*:: :->rest'"]
    for argument in one.arguments:
        action = "_files" if argument.takes == "file" else " "
        count = "*" if argument.repeated else ""
        specs.append(_zsh_quote(f"{count}:{_zsh_text(argument.name)}:{action}"))
    lines = [f"{_zsh_name(program, one.path)}() {{"]
    if one.commands:
        lines.append("    local curcontext=$curcontext state line ret=1")
    joined = " \\\n        ".join(specs)
    lines.append(
        f"    _arguments -C -S \\\n        {joined}" + (" && ret=0" if one.commands else "")
    )
    if one.commands:
        told = " \\\n            ".join(
            _zsh_quote(f"{below.name}:{below.short}") for below in one.commands
        )
        cases = "\n".join(
            f"        {below.name}) {_zsh_name(program, below.path)} && ret=0 ;;"
            for below in one.commands
        )
        lines.append(
            "    case $state in\n"
            f"    command)\n        local -a commands=(\n            {told}\n        )\n"
            "        _describe -t commands command commands && ret=0\n        ;;\n"
            f"    rest)\n        case $words[1] in\n{cases}\n        esac\n        ;;\n"
            "    esac\n    return ret"
        )
    lines.append("}\n")
    return "\n".join(lines)


def _zsh_option(option: Option) -> list[str]:
    value = ""
    if option.takes == "file":
        value = ":file:_files"
    elif option.takes == "text":
        value = f":value:({' '.join(option.choices)})" if option.choices else ":value: "
    many = "*" if option.repeated else ""
    return [_zsh_quote(f"{many}{flag}[{_zsh_text(option.help)}]{value}") for flag in option.flags]


def _zsh_text(text: str) -> str:
    for character in "\\[]:":
        text = text.replace(character, f"\\{character}")
    return text


def _zsh_quote(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def fish(program: str, root: Command) -> str:
    """Return the script for ``/usr/share/fish/vendor_completions.d``."""
    at = f"__{program.replace('-', '_')}_at"
    paths = [" ".join(one.path) for one in root.walk() if one.path]
    valued = [
        f"{' '.join(one.path)}:{flag}"
        for one in root.walk()
        for option in one.options
        if option.takes != "nothing"
        for flag in option.flags
    ]
    lines = [
        f"# Written by tools/manuals from the commands of {program}; do not edit.",
        f"function {at} --description 'whether the commands typed so far are these'",
        "    set -l path ''",
        "    set -l skip no",
        "    set -l typed (commandline -opc)",
        "    for word in $typed[2..-1]",
        "        if test $skip = yes",
        "            set skip no",
        f'        else if contains -- "$path:$word" {" ".join(_fish_quote(v) for v in valued)}',
        "            set skip yes",
        '        else if contains -- (string trim -- "$path $word") '
        + " ".join(_fish_quote(path) for path in paths),
        '            set path (string trim -- "$path $word")',
        "        end",
        "    end",
        '    test "$path" = "$argv"',
        "end",
        "",
        f"complete -c {program} -f",
    ]
    for one in root.walk():
        where = f"-n {_fish_quote(f'{at} {chr(32).join(one.path)}'.strip())}"
        lines += [
            f"complete -c {program} {where} -a {below.name} -d {_fish_quote(below.short)}"
            for below in one.commands
        ]
        lines += [
            f"complete -c {program} {where} {_fish_option(option, flag)}"
            for option in one.options
            for flag in option.flags
        ]
        lines.append(f"complete -c {program} {where} -l help -d 'Show what it does and takes.'")
        if any(argument.takes == "file" for argument in one.arguments):
            lines.append(f"complete -c {program} {where} -F")
    return "\n".join(lines) + "\n"


def _fish_option(option: Option, flag: str) -> str:
    parts = [f"-l {flag.removeprefix('--')}"]
    if option.takes == "file":
        parts.append("-r -F")
    elif option.takes == "text":
        parts.append("-x")
        if option.choices:
            parts.append(f"-a {_fish_quote(' '.join(option.choices))}")
    return " ".join([*parts, f"-d {_fish_quote(option.help)}"])


def _fish_quote(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
