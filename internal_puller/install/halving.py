"""Which new certificates a server's test refuses: the table by test, with as few tests as can be.

Pure: it is told by a function whether the test passes with some of them new and the others old.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    Passes = Callable[[frozenset[str]], bool]

MOST_BAD: Final = 3
"""So many are looked for one by one; then what is still suspected goes back together."""


@dataclass(frozen=True)
class Sifted:
    """What the test says of some members.

    Attributes:
        new: these stay new.
        back: with these new it fails, and without them it passes.
        broken: it fails with everything new and with everything old; all stay new.
    """

    new: frozenset[str]
    back: frozenset[str] = frozenset()
    broken: bool = False


def sift(firsts: Sequence[str], renewals: Sequence[str], passes: Passes) -> Sifted:
    """Return which members stay new.

    At most ``k * (ceil(log2(n)) + 1) + 3`` tests for ``k`` bad ones of ``n`` members.

    Args:
        firsts: members that have had no certificate: their old is "no file".
        renewals: all others.
        passes: runs the test with these members new and the others old.
    """
    everything = frozenset((*firsts, *renewals))
    if passes(everything):
        return Sifted(everything)
    if firsts and renewals and passes(frozenset(firsts)):
        return _without_the_bad(renewals, frozenset(firsts), passes)
    if everything and passes(frozenset()):
        return _without_the_bad((*firsts, *renewals), frozenset(), passes)
    return Sifted(everything, broken=True)


def _without_the_bad(suspects: Sequence[str], base: frozenset[str], passes: Passes) -> Sifted:
    """The test passes with ``base`` new, and fails with the suspects new as well."""
    everything = base.union(suspects)
    good, left = base, list(suspects)
    for _ in range(MOST_BAD):
        if not left:
            break
        good, bad = _find_one(left, good, passes)
        left = [one for one in left if one not in good and one != bad]
        if passes(good.union(left)):
            return _split(everything, good.union(left))
    # Each alone was found good or is suspected; together they must be good as well.
    return _split(everything, good if good == base or passes(good) else base)


def _find_one(
    suspects: Sequence[str], good: frozenset[str], passes: Passes
) -> tuple[frozenset[str], str]:
    """Return those found good on the way, and a bad one, by ``ceil(log2(n))`` tests."""
    while len(suspects) > 1:
        middle = (len(suspects) + 1) // 2
        half, other = suspects[:middle], suspects[middle:]
        if passes(good.union(half)):
            good, suspects = good.union(half), other
        else:
            suspects = half
    return good, suspects[0]


def _split(everything: Iterable[str], new: frozenset[str]) -> Sifted:
    return Sifted(new, frozenset(everything) - new)
