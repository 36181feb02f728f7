"""How receipts travel together: bounded calls, in order, and nothing lost on the way."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.contract.batches import (
    MAX_DETAIL,
    MOST_IN_BATCH,
    BatchAnswer,
    Refusal,
    batches,
    decode_batch,
    encode_batch,
)
from shared.contract.errors import MalformedMessage
from shared.contract.http_signatures import MAX_BODY
from shared.contract.wire import DirectReport, Receipt, Served

NAME = "www.intra.example.com"


@given(st.lists(st.integers(1, 40_000), max_size=300))
@example([1] * 250)
def test_every_call_is_bounded_and_nothing_is_lost(sizes: list[int]) -> None:
    items = [f'"{"ü" * (size // 2)}"' for size in sizes]
    parts = [items[part] for part in batches(items)]
    assert [one for part in parts for one in part] == items
    for part in parts:
        assert 1 <= len(part) <= MOST_IN_BATCH
        assert len(encode_batch("receipts", part)) <= MAX_BODY


def test_the_largest_receipt_and_report_fit_alone() -> None:
    served = tuple(Served(f"{number:064x}", 2**53 - 1, "x" * 255) for number in range(16))
    names = tuple(
        sorted(
            f"{number:03}.{'a' * 63}.{'b' * 63}.{'c' * 63}.{'d' * 50}.example"
            for number in range(100)
        )
    )
    receipt = Receipt("a" * 200, 2**53 - 1, "0" * 64, "rolled_back", "none", served, 2**53 - 1)
    report = DirectReport(
        "a" * 200, names, 2**53 - 1, 2**53 - 1, "0" * 64, 0, "failed", "none", served, 0
    )
    for one, name in ((receipt, "receipts"), (report, "reports")):
        assert len(encode_batch(name, [one.encode().decode()])) <= MAX_BODY


def test_one_that_cannot_be_read_is_told_in_its_place() -> None:
    good = Receipt(NAME, 1, "0" * 64, "installed", "none", (), 1)
    body = encode_batch("receipts", ["{}", good.encode().decode(), '{"certificate":1}'])
    first, second, third = decode_batch(body, "receipts", Receipt.read)
    assert isinstance(first, MalformedMessage)
    assert second == good
    assert isinstance(third, MalformedMessage)


def test_an_answer_comes_back_as_it_was_with_short_words() -> None:
    answer = BatchAnswer((Refusal(0, "malformed-request", "x" * 1000), Refusal(99, "quota", "")))
    read = BatchAnswer.decode(answer.encode())
    assert [(one.index, one.slug) for one in read.refused] == [
        (0, "malformed-request"),
        (99, "quota"),
    ]
    assert len(read.refused[0].detail) == MAX_DETAIL
    assert BatchAnswer.decode(BatchAnswer().encode()) == BatchAnswer()


@pytest.mark.parametrize(
    "data",
    [
        b'{"accepted":true}',
        b'{"refused":[{"index":100,"type":"quota","detail":""}]}',
        b'{"refused":[{"index":0,"type":"../x","detail":""}]}',
        b'{"refused":[{"index":0,"type":"quota"}]}',
    ],
)
def test_other_answers_are_malformed(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        BatchAnswer.decode(data)
