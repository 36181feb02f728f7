"""Every static check, one after the other: style, types, import rules, known vulnerabilities."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from tools.environment import ROOT
from tools.parts import INCOMPLETE

LOCK = ROOT / "requirements" / "dev.txt"
CHECKS = (
    ("ruff", "check", "."),
    ("ruff", "format", "--check", "."),
    ("mypy", "--strict"),
    ("lint-imports", "--no-logo"),
)
SERVICES = ("pypi", "osv")


def main() -> int:
    """Run all of them, so that one look shows everything that is wrong."""
    failed = [" ".join(check) for check in CHECKS if not _passes(check)]
    vulnerabilities = _audit()
    if vulnerabilities:
        failed.append("pip-audit")
    for check in failed:
        print(f"FAILED: {check}")
    return 1 if failed else INCOMPLETE if vulnerabilities is None else 0


def _passes(check: tuple[str, ...]) -> bool:
    print(f"--- {' '.join(check)}", flush=True)
    program, *arguments = check
    return subprocess.run([_beside(program), *arguments], cwd=ROOT, check=False).returncode == 0


def _beside(program: str) -> str:
    return str(Path(sys.executable).parent / program)


def _audit() -> list[str] | None:
    """Known vulnerabilities of what is locked; None, said loudly, when nobody can be asked."""
    print("--- pip-audit", flush=True)
    locked = [line.split(" ")[0] for line in LOCK.read_text().splitlines() if "==" in line]
    for service in SERVICES:
        # One question first: a service that does not know this one knows none of them.
        if _ask(service, locked[:1]) is not None:
            found = _ask(service, locked)
            break
    else:
        found = None
    if found is None:
        print("!!! THE AUDIT DID NOT RUN: no vulnerability service answers from here.")
    for line in found or ():
        print(line)
    return found


def _ask(service: str, locked: list[str]) -> list[str] | None:
    """The vulnerabilities as lines, or None when the service cannot tell."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as listing:
        listing.write("\n".join(locked))
        listing.flush()
        command = [_beside("pip-audit"), "--vulnerability-service", service, "--format", "json"]
        command += ["--no-deps", "--disable-pip", "--progress-spinner", "off", "--timeout", "15"]
        done = subprocess.run(
            [*command, "--requirement", listing.name],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
    try:
        answers = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        return None
    if not answers or any("skip_reason" in answer for answer in answers):
        return None
    return [
        f"{answer['name']} {answer['version']}: {vulnerability['id']}, "
        f"mended in {', '.join(vulnerability['fix_versions']) or 'no version yet'}"
        for answer in answers
        for vulnerability in answer["vulns"]
    ]


if __name__ == "__main__":
    sys.exit(main())
