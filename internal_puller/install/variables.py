"""What a server's commands may want to know, as variables of their environment."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from internal_puller.install.layout import CURRENT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from internal_puller.install.presets import Plan

MOST_OCTETS: Final = 100 << 10


def variables(members: Sequence[tuple[Plan, int]]) -> dict[str, str]:
    """Return the ``RELAY_*`` variables: of each member, in the same order, between spaces.

    None at all where one would be longer than ``MOST_OCTETS``: Linux starts no program with a
    string of 128 KiB in its environment (execve(2), MAX_ARG_STRLEN), and half a list is untrue.

    Args:
        members: the targets whose files the server reads, and the generation in place at each.
    """
    places = [(plan.remote or plan.target).directory / CURRENT for plan, _ in members]
    lists = {
        "RELAY_CERTIFICATE": [plan.target.certificate for plan, _ in members],
        "RELAY_GENERATION": [str(generation) for _, generation in members],
        "RELAY_DIRECTORY": [str(place) for place in places],
        "RELAY_KEY_FILE": [str(place / "privkey.pem") for place in places],
    }
    told = {name: " ".join(values) for name, values in lists.items()}
    fits = all(len(os.fsencode(text)) <= MOST_OCTETS for text in told.values())
    return told if fits else {}
