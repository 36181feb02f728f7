"""The table of every way: each cell a certificate that a real TLS server ends up serving.

{sealed, CSR, direct} x {http-01, dns-01, dns-persist-01} x {lab CA, Pebble, acme2certifier, Caddy};
DNS by BIND with TSIG and split views, through which the CAs validate.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

import pytest

from tests.every_way import (
    CAS,
    CELLS,
    CHALLENGES,
    MODES,
    NO_LISTENER,
    Cell,
    World,
    world_of,
)

pytestmark = [
    pytest.mark.cas,
    pytest.mark.timeout(240),
    pytest.mark.skipif(os.geteuid() != 0, reason="ports 53 and 80 take root"),
]
WorldOf = Callable[[str], World]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorldOf]:
    """Run everything that one CA does at the first question about it."""
    worlds: dict[str, World] = {}

    def of(ca: str) -> World:
        if ca not in worlds:
            base = tmp_path_factory.mktemp("ways") / ca
            with world_of(ca, base) as world:
                worlds[ca] = world
                world.run()
        return worlds[ca]

    yield of


def identify(cell: Cell) -> str:
    return f"{cell.ca}-{cell.mode}-{cell.challenge}"


@pytest.mark.parametrize("cell", [one for one in CELLS if not one.impossible], ids=identify)
def test_served(done: WorldOf, cell: Cell) -> None:
    outcome = done(cell.ca).outcomes[cell]
    assert outcome.served == outcome.installed


@pytest.mark.parametrize("cell", [one for one in CELLS if one.impossible], ids=identify)
def test_said_why_not(done: WorldOf, cell: Cell) -> None:
    refusal = done(cell.ca).refusals[cell]
    assert refusal.code in (3, 4, 6)
    if cell.impossible == NO_LISTENER:
        assert "http-01 needs a server that the" in refusal.err
    else:
        assert "does not offer dns-persist-01" in refusal.err
        assert "offers dns-01" in refusal.err  # and what it does offer
    assert "Traceback" not in refusal.err


def test_the_table(done: WorldOf, capsys: pytest.CaptureFixture[str]) -> None:
    """Print what there is and what there cannot be, with the reason."""
    with capsys.disabled():
        print("\n\n| CA | key | " + " | ".join(CHALLENGES) + " |")
        print("|---|---|" + "---|" * len(CHALLENGES))
        for ca in CAS:
            for mode in MODES:
                row = [_word(done(ca), Cell(ca, mode, one)) for one in CHALLENGES]
                print(f"| {ca} | {mode} | " + " | ".join(row) + " |")
    everything = {cell for ca in CAS for cell in (*done(ca).outcomes, *done(ca).refusals)}
    assert everything == set(CELLS)


def _word(world: World, cell: Cell) -> str:
    if cell.impossible and cell in CELLS:
        return f"no: {cell.impossible}"
    with contextlib.suppress(KeyError):
        outcome = world.outcomes[cell]
        return "served" if outcome.served == outcome.installed else "NOT SERVED"
    return "as above"
