"""Looks for a private key in this process's memory, as somebody with its core dump would.

The key is opened in another process, or the search itself would put it here.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from shared.contract.bundle import Manifest
from shared.contract.key_policy import load_key
from shared.contract.sealing import Identity, SealContext
from tests.canary import find_in_files, secrets_of

ROOT = Path(__file__).resolve().parents[1]


def found_in_own_memory(
    identity: Identity, sealed: bytes, context: SealContext, directory: Path
) -> list[str]:
    """Return the forms in which the sealed key's plaintext is in our memory; none is right.

    Args:
        directory: room for a copy of the memory, which is removed again.
    """
    dump = directory / "memory"
    dump.mkdir()
    case = {
        "identity": identity.private().hex(),
        "sealed": sealed.hex(),
        "context": [getattr(context, name) for name in SealContext.__slots__],
        "mark": context.spki_sha256,
        "directory": str(dump),
    }
    try:
        _dump(dump / "dump")
        ended = subprocess.run(
            [sys.executable, "-m", "tests.memory_search"],
            input=json.dumps(case),
            env={"PYTHONPATH": str(ROOT)},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=100,
            check=True,
        )
    finally:
        for path in dump.iterdir():
            path.unlink()
    found: list[str] = json.loads(ended.stdout)
    assert "the mark was not found" not in found, "the search itself must work"
    return found


def context_of(manifest: Manifest) -> SealContext:
    return SealContext(
        manifest.agent,
        manifest.recipient,
        manifest.generation,
        manifest.spki_sha256,
        manifest.certificate,
    )


def _dump(path: Path) -> None:
    """Copy every readable and writable mapping of this process into a file."""
    with (
        Path("/proc/self/maps").open() as maps,
        Path("/proc/self/mem").open("rb", 0) as memory,
        path.open("wb") as out,
    ):
        for line in maps.read().splitlines():
            span, mode = line.split()[:2]
            if not mode.startswith("rw"):
                continue
            low, high = (int(part, 16) for part in span.split("-"))
            for place in range(low, high, 1 << 20):
                memory.seek(place)
                try:
                    out.write(memory.read(min(1 << 20, high - place)))
                except OSError:
                    break


def main() -> None:
    case = json.load(sys.stdin)
    identity = Identity(bytes.fromhex(case["identity"]))
    der = identity.open(bytes.fromhex(case["sealed"]), SealContext(*case["context"]))
    directory = Path(case["directory"])
    wrong = find_in_files([directory], secrets_of("the key", load_key(der)))
    if case["mark"].encode() not in (directory / "dump").read_bytes():
        wrong.append("the mark was not found")
    print(json.dumps(wrong))


if __name__ == "__main__":
    main()
