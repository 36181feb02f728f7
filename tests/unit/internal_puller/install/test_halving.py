"""Which members a test refuses, and by how many tests that is known."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from internal_puller.install.halving import MOST_BAD, Sifted, sift


@dataclass
class Configuration:
    """Refuses what is bad, and what it needs and is old; or anything."""

    bad: frozenset[str] = frozenset()
    needs: frozenset[str] = frozenset()
    broken: bool = False
    tests: list[frozenset[str]] = field(default_factory=list)

    def __call__(self, new: frozenset[str]) -> bool:
        self.tests.append(new)
        return not self.broken and not new & self.bad and self.needs <= new


NAMES = [f"site{number}" for number in range(60)]
SETS = st.sets(st.sampled_from(NAMES), max_size=60)


@given(members=SETS, bad=SETS, firsts=SETS)
def test_bad_ones_are_found_and_never_by_more_tests_than_promised(
    members: set[str], bad: set[str], firsts: set[str]
) -> None:
    refuses = Configuration(frozenset(bad & members))
    found = sift(sorted(members & firsts), sorted(members - firsts), refuses)
    guilty = bad & members
    assert found.new | found.back == members
    assert not found.new & guilty
    if len(guilty) <= MOST_BAD:
        assert found.back == guilty
    levels = math.ceil(math.log2(len(members))) if len(members) > 1 else 0
    assert len(refuses.tests) <= len(guilty) * (levels + 1) + 3


@given(members=SETS, bad=SETS, firsts=SETS, needs=SETS, broken=st.booleans())
def test_what_stays_new_passes_unless_nothing_does(
    members: set[str], bad: set[str], firsts: set[str], needs: set[str], broken: bool
) -> None:
    """Whatever the configuration is: it is left as a test has passed, or all new."""
    refuses = Configuration(frozenset(bad), frozenset(needs & firsts), broken)
    found = sift(sorted(members & firsts), sorted(members - firsts), refuses)
    if found.broken:
        assert (found.new, found.back) == (members, frozenset())
        assert not refuses(frozenset())
    else:
        assert refuses(found.new)


def test_nothing_to_go_back_to_is_one_test() -> None:
    broken = Configuration(broken=True)
    assert sift([], [], broken) == Sifted(frozenset(), broken=True)
    assert len(broken.tests) == 1
