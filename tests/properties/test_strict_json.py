"""No bytes make the reader raise anything but its own family."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contract import strict_json
from shared.contract.errors import MalformedBundle

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def _decode(data: bytes) -> strict_json.Members:
    return strict_json.decode_object(data, "It", max_size=10_000)


@given(st.binary(max_size=2000) | JSON_VALUES.map(lambda v: json.dumps(v).encode()))
def test_an_object_or_one_error(data: bytes) -> None:
    try:
        members = _decode(data)
    except MalformedBundle:
        return
    assert isinstance(json.loads(data), dict)
    assert isinstance(members, strict_json.Members)


@given(st.dictionaries(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
                       st.integers(-(2**53) + 1, 2**53 - 1)))  # fmt: skip
def test_round_trip(values: dict[str, int]) -> None:
    members = _decode(strict_json.encode(values))
    assert {name: members.integer(name, minimum=-(2**53)) for name in values} == values
    members.nothing_left()


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "1", '"x"', "null", "{", "{}{}", '{"a":1.0}', '{"a":1e2}', '{"a":NaN}',
        '{"a":Infinity}', '{"a":9007199254740992}', '{"a":-9007199254740992}', '{"a":1,"a":1}',
        '{"a":{"b":1,"b":2}}', '{"a":"\\u0000"}', '{"a":"\\ud800"}', '{"\\udfff":1}',
        '{"a":' + "[" * 17 + "]" * 17 + "}", '{"a":' + "[" * 100_000, '{"a":' + "9" * 5000 + "}",
        "\ufeff{}",
    ],
)  # fmt: skip
def test_refused(text: str) -> None:
    with pytest.raises(MalformedBundle):
        strict_json.decode_object(text.encode(), "It", max_size=200_000)


def test_brackets_within_strings_are_no_depth() -> None:
    text = json.dumps({"a": "[" * 50 + '\\"' + "{" * 50})
    assert _decode(text.encode()).text("a").startswith("[[")


@pytest.mark.parametrize("value", [True, 1.5, "1", None, -1, [1]])
def test_an_integer_is_nothing_else(value: object) -> None:
    members = strict_json.Members({"a": value}, "It", MalformedBundle)  # type: ignore[dict-item]
    with pytest.raises(MalformedBundle):
        members.integer("a")


@pytest.mark.parametrize("text", ["QQ", "QR==", "Q Q==", "QQ==\n", "_w==", "QQ=", "é"])
def test_one_base64_for_each_octet_string(text: str) -> None:
    assert strict_json.decode_base64(text) is None


@pytest.mark.parametrize("unit", ['\\"', '"', "\\", '"\\"', "[", '{"'])
def test_time_grows_with_the_number_of_octets_only(unit: str) -> None:
    data = ('"' + unit * (65_000 // len(unit))).encode()
    begin = time.process_time()
    with pytest.raises(MalformedBundle):
        strict_json.decode_object(data, "It", max_size=65_536)
    assert time.process_time() - begin < 1
