"""Writes deploy/completion, deploy/man and docs/reference from the code of both programs."""

from __future__ import annotations

import argparse
import sys
import tomllib
from functools import cache
from pathlib import Path

from tools import completions
from tools.command_tree import programs
from tools.man_pages import man_page
from tools.reference_pages import pages

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"


@cache
def wanted() -> dict[Path, str]:
    """Return what each file is to hold."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    files = {}
    for program, root in programs().items():
        folder = DEPLOY / "completion"
        files[folder / "bash" / program] = completions.bash(program, root)
        files[folder / "zsh" / f"_{program}"] = completions.zsh(program, root)
        files[folder / "fish" / f"{program}.fish"] = completions.fish(program, root)
        files[DEPLOY / "man" / f"{program}.1"] = man_page(program, root, project["version"])
    for name, text in pages().items():
        files[ROOT / "docs" / "reference" / name] = text
    return files


def main() -> int:
    """Write them, or tell which are not up to date."""
    parser = argparse.ArgumentParser(prog="tools/manuals", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if one is old")
    check = parser.parse_args().check
    old = [
        path
        for path, text in wanted().items()
        if not path.exists() or path.read_text("utf-8") != text
    ]
    for path in old:
        print(f"{'old' if check else 'written'}: {path.relative_to(ROOT)}")
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted()[path], "utf-8")
    return 1 if check and old else 0


if __name__ == "__main__":
    sys.exit(main())
