"""What the second implementation says about the vectors, and that its judge has teeth."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.second.other import run

pytestmark = [pytest.mark.second, pytest.mark.timeout(180)]
VECTORS = Path(__file__).parents[1] / "vectors"
LAST = re.compile(r"(\d+) vectors, (\d+) disagreements")


def judged(root: Path) -> tuple[int, int, list[str]]:
    """How many vectors and disagreements there are, and the lines."""
    done = run("judge.js", str(root))
    lines = done.stdout.splitlines()
    found = LAST.fullmatch(lines[-1])
    assert found, done.stderr
    assert done.returncode == (0 if found[2] == "0" else 1)
    return int(found[1]), int(found[2]), lines


def test_every_vector_gets_the_named_verdict() -> None:
    count, wrong, lines = judged(VECTORS)
    files = [one for one in VECTORS.glob("*/*") if one.is_file() and not one.suffix]
    assert (count, wrong) == (len(files), 0), "\n".join(lines)


def test_a_bit_anywhere_in_a_good_vector_is_noticed(tmp_path: Path) -> None:
    """Each copy has another octet changed; the good ones were found good above."""
    shutil.copytree(VECTORS, tmp_path / "vectors", ignore=lambda folder, _: emptied(folder))
    made = 0
    for kind in ("bundle", "request", "token", "csr"):
        head, octets = (VECTORS / kind / "good").read_bytes().split(b"\n\n", 1)
        for at in range(0, len(octets), max(1, len(octets) // 40)):
            changed = octets[:at] + bytes([octets[at] ^ 1]) + octets[at + 1 :]
            (tmp_path / "vectors" / kind / f"changed-{at}").write_bytes(head + b"\n\n" + changed)
            made += 1
    (tmp_path / "vectors" / "bundle" / "root.pem").write_bytes(
        (VECTORS / "bundle" / "root.pem").read_bytes()
    )
    count, wrong, lines = judged(tmp_path / "vectors")
    assert count == wrong == made > 100, "\n".join(lines)
    assert "crash" not in "".join(lines)


def test_a_verdict_of_another_name_is_a_disagreement(tmp_path: Path) -> None:
    (tmp_path / "csr").mkdir()
    text = (VECTORS / "csr" / "names-extra").read_bytes()
    (tmp_path / "csr" / "renamed").write_bytes(text.replace(b"policy/csr", b"policy/other", 1))
    assert judged(tmp_path)[:2] == (1, 1)


def test_a_folder_that_it_does_not_know_is_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "unheard-of").mkdir()
    shutil.copy(VECTORS / "csr" / "good", tmp_path / "unheard-of" / "good")
    assert judged(tmp_path)[:2] == (1, 1)


def test_the_parser_of_the_vectors_is_short() -> None:
    assert len((Path(__file__).parent / "vectors.js").read_text().splitlines()) <= 60


def emptied(folder: str) -> list[str]:
    """Of the vectors only the folders are copied."""
    return [one.name for one in Path(folder).iterdir() if one.is_file()]
