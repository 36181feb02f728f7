"""The world of the topology tests is what it claims to be, and goes away."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.lab.peers import require

from .namespaces import NETNS_FILES, PREFIX, Namespace, hosts, remove_stale
from .world import CA, GATEWAY, INTRANET, NAT, VM, WWW, inside_dns, lab_ca, outside_dns, world

pytestmark = [
    pytest.mark.topology,
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root"),
]


@pytest.fixture(autouse=True)
def _programs() -> None:
    for program in ("ip", "nft"):
        require(program)


def resolve(host: Namespace, name: str) -> str:
    """Ask as the host's own programs would: through its resolv.conf."""
    ask = "import socket, sys; print(socket.gethostbyname(sys.argv[1]))"
    return host.run(sys.executable, "-I", "-c", ask, name).strip()


def reaches(host: Namespace, address: str, port: int, seconds: float = 0.5) -> bool:
    with host.entered():
        try:
            socket.create_connection((address, port), timeout=seconds).close()
        except TimeoutError:
            return False
    return True


def listener(host: Namespace, address: str) -> socket.socket:
    with host.entered():
        return socket.create_server((address, 443))


def test_two_views_of_one_name() -> None:
    with world() as built, outside_dns(built) as dns, inside_dns(built):
        assert resolve(built.internet, WWW) == VM
        assert resolve(built.vm, WWW) == VM
        assert resolve(built.intranet, WWW) == INTRANET
        with lab_ca(built, dns) as ca:
            assert ca.directory_url.startswith(f"https://{CA}:443/")
            assert reaches(built.vm, resolve(built.vm, CA), 443)


def test_only_the_filter_keeps_the_internet_out() -> None:
    with world() as built, listener(built.intranet, INTRANET), listener(built.vm, VM):
        assert reaches(built.intranet, VM, 443)
        assert (built.dropped(), built.let_out()) == (0, 1)
        for before, host in enumerate((built.internet, built.vm)):
            assert not reaches(host, INTRANET, 443)
            assert built.dropped() > before
        assert not reaches(built.vm, NAT, 443)
        assert built.arrived() == 0
        built.nat.run("nft", "flush", "chain", "inet", "gate", "forward")
        built.nat.run("nft", "add", "rule", "inet", "gate", "forward", "accept")
        assert reaches(built.internet, INTRANET, 443)  # there is a way: it was the filter
        assert built.arrived() == 1


@pytest.mark.parametrize("direction", ["both", "inward", "outward"])
def test_a_cut_link_heals(direction: str) -> None:
    with world() as built, listener(built.vm, VM), listener(built.intranet, INTRANET):
        with built.cut(direction):
            assert not reaches(built.intranet, VM, 443)
            assert reaches(built.nat, INTRANET, 443)
        assert reaches(built.intranet, VM, 443)


def test_quick_and_gone() -> None:
    begun = time.monotonic()
    with world() as built:
        took = time.monotonic() - begun
        sleeper = subprocess.Popen(built.intranet.argv("sleep", "600"))
        names = [host.name for host in (built.internet, built.vm, built.nat, built.intranet)]
    assert took < 5
    assert sleeper.wait(5) != 0
    assert [name for name in names if Path(f"/run/netns/{name}").exists()] == []
    assert [name for name in names if (NETNS_FILES / name).exists()] == []


def test_gone_after_a_failure_too() -> None:
    def fail() -> None:
        with world():
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert leftovers(os.getpid()) == []


def test_what_a_killed_run_left_is_removed() -> None:
    script = (
        "import os, signal, subprocess\n"
        "from tests.topology.world import world\n"
        "with world() as built:\n"
        "    subprocess.Popen(built.vm.argv('sleep', '600'), stdout=-3, stderr=-3)\n"
        "    print(os.getpid(), flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    maker = int(done.stdout)
    assert len(leftovers(maker)) == 4
    remove_stale()
    assert leftovers(maker) == []


def test_hosts_of_a_run_that_lives_are_left_alone() -> None:
    with hosts("one") as (host,):
        remove_stale()
        assert leftovers(os.getpid()) == [host.name]


def leftovers(maker: int) -> list[str]:
    return sorted(path.name for path in Path("/run/netns").glob(f"{PREFIX}{maker}-*"))


def test_the_gateway_answers_names(tmp_path: Path) -> None:
    with world() as built, inside_dns(built):
        assert built.intranet.run("cat", "/etc/resolv.conf").startswith(f"nameserver {GATEWAY}")
        (tmp_path / "seen").write_text(built.vm.run("cat", "/etc/resolv.conf"))
        assert GATEWAY not in (tmp_path / "seen").read_text()
