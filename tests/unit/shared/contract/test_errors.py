"""The error tree: stable types, documented codes, and a drawing that is true."""

from __future__ import annotations

import re

from shared.contract import errors
from shared.contract.errors import RelayError


def _tree(base: type[RelayError]) -> list[type[RelayError]]:
    own = [one for one in base.__subclasses__() if one.__module__ == errors.__name__]
    return [base, *[member for one in own for member in _tree(one)]]


def test_the_drawing_shows_every_class() -> None:
    drawn = set(re.findall(r"[├└]── (\w+)", errors.__doc__ or ""))
    assert drawn == {one.__name__ for one in _tree(RelayError)} - {"RelayError"}


def test_drawn_exit_codes_are_the_real_ones() -> None:
    for name, code in re.findall(r"[├└]── (\w+) +(\d+) ", errors.__doc__ or ""):
        assert getattr(errors, name).exit_code == int(code)


def test_types_are_stable_and_unique() -> None:
    types = [one.type for one in _tree(RelayError)]
    assert len(types) == len(set(types))
    assert all(re.fullmatch(r"[a-z-]+(/[a-z-]+)?", one) for one in types)


def test_an_error_says_what_it_means_and_what_to_do() -> None:
    for one in _tree(RelayError):
        if one is RelayError:
            continue
        lines = one("Something happened.").explain().split("\n")
        assert lines[0] == "Something happened."
        assert one("x", do="Do this.").explain().endswith("Do this.")
        assert any("do" in vars(base) or "means" in vars(base) for base in one.__mro__[:-3])
