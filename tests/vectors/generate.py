"""Write every vector file anew: ``python -m tests.vectors.generate``; the same octets each time."""

from __future__ import annotations

from pathlib import Path

from tests.vectors import bundle_vectors, csr_vectors, other_vectors
from tests.vectors.vector import HERE, Vector


def everything() -> dict[str, list[Vector]]:
    return {
        "bundle": bundle_vectors.vectors(),
        "rehearsal": bundle_vectors.rehearsals(),
        "token": other_vectors.tokens(),
        "request": other_vectors.requests(),
        "csr": csr_vectors.vectors(),
    }


def write(into: Path) -> int:
    count = 0
    for kind, vectors in everything().items():
        folder = into / kind
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
        for vector in vectors:
            (folder / vector.name).write_bytes(vector.encode())
            count += 1
    (into / "bundle" / "root.pem").write_bytes(bundle_vectors.root_pem())
    return count


if __name__ == "__main__":
    print(f"{write(HERE)} vectors written")
