"""What the second implementation says about the vectors, and that its judge has teeth."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.second.other import run

pytestmark = [pytest.mark.second, pytest.mark.timeout(180)]
VECTORS = Path(__file__).parents[1] / "vectors"
PROTECTED = {  # a good vector of each folder whose octets are signed, sealed or right in themselves
    **dict.fromkeys(
        ("bundle", "request", "enrolment", "answers", "token", "csr", "sealing"), "good"
    ),
    "keys": "good-p256",
}
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
    made = 0
    for kind, name in PROTECTED.items():
        (tmp_path / kind).mkdir()
        head, octets = (VECTORS / kind / name).read_bytes().split(b"\n\n", 1)
        for at in range(0, len(octets), max(1, len(octets) // 40)):
            changed = octets[:at] + bytes([octets[at] ^ 1]) + octets[at + 1 :]
            (tmp_path / kind / f"changed-{at}").write_bytes(head + b"\n\n" + changed)
            made += 1
    shutil.copy(VECTORS / "bundle" / "root.pem", tmp_path / "bundle")
    count, wrong, lines = judged(tmp_path)
    assert count == wrong == made > 200, "\n".join(lines)
    assert "crash" not in "".join(lines)


def test_a_verdict_of_another_name_is_a_disagreement(tmp_path: Path) -> None:
    (tmp_path / "csr").mkdir()
    head, octets = (VECTORS / "csr" / "names-extra").read_bytes().split(b"\n", 1)
    (tmp_path / "csr" / "renamed").write_bytes(head + b"-not\n" + octets)
    assert judged(tmp_path)[:2] == (1, 1)


def test_a_folder_that_it_does_not_know_is_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "unheard-of").mkdir()
    shutil.copy(VECTORS / "csr" / "good", tmp_path / "unheard-of" / "good")
    assert judged(tmp_path)[:2] == (1, 1)


def test_the_parser_of_the_vectors_is_short() -> None:
    assert len((Path(__file__).parent / "vectors.js").read_text().splitlines()) <= 60
