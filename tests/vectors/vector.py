"""A vector file: ``name: value`` lines that say what is expected and why, a blank line, octets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Vector:
    name: str
    head: dict[str, str]
    body: bytes

    @property
    def expect(self) -> str:
        """``success``, or the ``type`` of the one error that must be raised."""
        return self.head["expect"]

    def encode(self) -> bytes:
        lines = "".join(f"{key}: {value}\n" for key, value in self.head.items())
        return lines.encode() + b"\n" + self.body

    @classmethod
    def read(cls, path: Path) -> Vector:
        head, _, body = path.read_bytes().partition(b"\n\n")
        pairs = (line.split(": ", 1) for line in head.decode().split("\n"))
        return cls(path.name, {pair[0].rstrip(":"): "".join(pair[1:]) for pair in pairs}, body)


def read_all(kind: str) -> list[Vector]:
    """Return every vector of one folder, sorted by name."""
    return [Vector.read(path) for path in sorted((HERE / kind).iterdir()) if path.suffix != ".pem"]
