"""Which machine asks: the same until the next boot, another for each copy, or not known."""

from __future__ import annotations

from pathlib import Path

import pytest

from internal_puller.sources.agent.this_machine import this_machine
from shared.contract.wire import HOST, INSTALLATION, Machine
from shared.host.boot import BOOT_ID
from tests.fake_agent import FakeAgent
from tests.machine import Machine as Intranet

ROOT = Path(__file__).resolve().parents[5]
BOOT, NEXT_BOOT = "0123456789abcdef0123456789abcdef", "ffffffffffffffffffffffffffffffff"


def machine(
    root: Path,
    *,
    machine_id: str | None = "aa" * 16,
    boot: str | None = "01234567-89ab-cdef-0123-456789abcdef",
    host: str = "web1",
    environment: dict[str, str] | None = None,
) -> Machine | None:
    for place, text in (("etc/machine-id", machine_id), ("proc/sys/kernel/random/boot_id", boot)):
        path = root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        if text is not None:
            path.write_text(text + "\n")
    return this_machine(root, environment=environment or {}, host=host)


def test_the_same_from_one_boot_to_the_next(tmp_path: Path) -> None:
    one = machine(tmp_path)
    assert one == machine(tmp_path)
    assert one is not None
    assert INSTALLATION.match(one.installation)
    assert one.host == "web1"


def test_the_unit_says_what_its_sandbox_hides(tmp_path: Path) -> None:
    assert machine(tmp_path, boot=None, environment={BOOT_ID: BOOT}) == machine(tmp_path)


@pytest.mark.parametrize(
    "unit",
    [
        "internal-puller",
        "internal-puller-run",
        "internal-puller-commands@",
        "internal-puller-recover",
    ],
)
def test_the_shipped_units_say_it(unit: str) -> None:
    """Also where /proc has it: in a container that is what the machine below it has."""
    text = (ROOT / f"deploy/systemd/{unit}.service").read_text()
    assert f"Environment={BOOT_ID}=%b\n" in text


def test_every_part_makes_it_another(tmp_path: Path) -> None:
    found = [
        machine(tmp_path),
        machine(tmp_path, machine_id="bb" * 16),
        machine(tmp_path, machine_id=None),
        machine(tmp_path, host="web2"),
        machine(tmp_path, environment={BOOT_ID: NEXT_BOOT}),
    ]
    assert None not in found
    assert len({one.installation for one in found if one}) == len(found)


@pytest.mark.parametrize(
    "changes",
    [
        {"boot": None},
        {"boot": "no boot id"},
        {"environment": {BOOT_ID: "%b"}},
        {"host": "two words"},
        {"host": ""},
        {"host": "x" * 65},
    ],
)
def test_what_is_not_known_is_not_guessed(tmp_path: Path, changes: dict[str, str]) -> None:
    assert machine(tmp_path, **changes) is None  # type: ignore[arg-type]


def test_this_very_machine_is_known() -> None:
    here = this_machine()
    assert here is not None
    assert HOST.match(here.host)


def test_it_is_said_with_every_question_and_not_at_all_when_not_known(
    agent: FakeAgent, machine: Intranet
) -> None:
    asked: list[str] = []
    serve = agent.serve

    def noted(handler: object, body: bytes) -> None:
        asked.append(handler.path)  # type: ignore[attr-defined]
        serve(handler, body)  # type: ignore[arg-type]

    agent.serve = noted  # type: ignore[method-assign]
    machine.identify = lambda: Machine(BOOT, "web1")
    machine.pull()
    machine.pull(wait=1)
    machine.identify = lambda: None
    machine.pull()
    said = f"installation={BOOT}&host=web1"
    assert asked[0] == f"/v1/certificates?{said}"
    assert asked[1].startswith("/v1/certificates?since=")
    assert asked[1].endswith(f"&wait=1&{said}")
    assert asked[2] == "/v1/certificates"
