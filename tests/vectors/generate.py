"""Write every vector file anew: ``python -m tests.vectors.generate``; the same octets each time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.vectors import (
    answer_vectors,
    bundle_vectors,
    csr_vectors,
    example,
    json_vectors,
    key_vectors,
    message_vectors,
    request_vectors,
    rules,
    sealing_vectors,
    token_vectors,
)
from tests.vectors.vector import HERE, Vector


def everything() -> dict[str, list[Vector]]:
    """Return the vectors of each folder, each with the rules that it stands for."""
    return {kind: [_ruled(kind, one) for one in vectors] for kind, vectors in _by_folder().items()}


def _ruled(kind: str, vector: Vector) -> Vector:
    head = dict(vector.head)
    first = {name: head.pop(name) for name in ("expect", "comment")}
    rule = {"rule": " ".join(rules.marks_of(kind, vector.name))}
    return replace(vector, head=first | rule | head)


def pages() -> dict[Path, str]:
    """Return the pages that are written from the vectors."""
    folder = rules.ROOT / "docs" / "reference"
    return {folder / "format-rules.md": rules.page(), folder / "format-example.md": example.page()}


def _by_folder() -> dict[str, list[Vector]]:
    return {
        "bundle": bundle_vectors.vectors(),
        "rehearsal": bundle_vectors.rehearsals(),
        "keys": key_vectors.alone(),
        "sealing": sealing_vectors.vectors(),
        "token": token_vectors.vectors(),
        "request": request_vectors.requests(),
        "enrolment": request_vectors.enrolments(),
        "answers": answer_vectors.vectors(),
        "listing": message_vectors.listings(),
        "receipts": message_vectors.receipts(),
        "csr": csr_vectors.vectors(),
        "json": json_vectors.vectors(),
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
    for page, text in pages().items():
        page.write_text(text, "utf-8")
    print(f"{write(HERE)} vectors written")
