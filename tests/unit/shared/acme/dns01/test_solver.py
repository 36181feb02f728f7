"""dns-01 against the lab's DNS: values beside others, zones, CNAMEs, waiting, and refusals."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.acme.authoritative import AuthoritativeDns
from shared.acme.dns01 import (
    Dns01Settings,
    dns01_solver,
    dns01_value,
    propagation,
    read_dns01_settings,
)
from shared.acme.dns01.solver import Dns01Solver
from shared.acme.ports import PendingChallenge, WaitingSolver
from shared.contract.errors import (
    DnsFailure,
    IssuanceError,
    IssuanceRejected,
    IssuanceUnavailable,
    IssuanceUnfinished,
)
from tests.dns_peers import TsigKey
from tests.lab.dns_update import UpdateKey
from tests.lab.split_dns import SplitDns
from tests.unit.shared.acme.doubles import MovedClock

pytestmark = pytest.mark.lab

NAME = "www.intra.example.com"
OWNER = f"_acme-challenge.{NAME}"


def challenge(name: str = NAME, token: str = "t" * 22) -> PendingChallenge:
    base = name.removeprefix("*.")
    return PendingChallenge(
        identifier=base,
        wildcard=name != base,
        type="dns-01",
        url=f"https://ca.example.org/{name}/{token}",
        token=token,
        key_authorization=f"{token}.thumbprint",
    )


def value(one: PendingChallenge) -> str:
    return dns01_value(one.key_authorization)


def at(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Bench:
    """A split DNS, a key in a file, and solvers for them."""

    def __init__(self, dns: SplitDns, directory: Path) -> None:
        self.dns, self.directory = dns, directory
        self.clock = MovedClock()
        self.use(dns.add_key(names=[".example.com", ".example.org"]))

    def use(self, key: UpdateKey) -> None:
        """Give the solvers this key, whatever the server knows."""
        self.key_file = TsigKey(key.name, key.algorithm, key.secret_base64).write(
            self.directory / f"{key.name}.key"
        )

    def settings(self, **more: Any) -> Dns01Settings:
        outside = at(self.dns.outside_address)
        rfc2136 = {"server": outside, "key_file": self.key_file, **more.pop("rfc2136", {})}
        return read_dns01_settings(
            {"resolvers": [outside], "name_servers": [outside], "rfc2136": rfc2136, **more}
        )

    def solver(self, **more: Any) -> Dns01Solver:
        return dns01_solver(self.settings(**more), sleep=self.clock.sleep, clock=self.clock)

    def texts(self, owner: str = OWNER, view: str = "outside") -> set[str]:
        return {one.strip('"') for one in self.dns.get(view, owner, "TXT")}

    def refusal(self, kind: type[IssuanceError] = DnsFailure, **more: Any) -> str:
        with pytest.raises(kind) as raised:
            self.solver(**more).present(challenge())
        return raised.value.explain()


@pytest.fixture
def dns() -> Iterator[SplitDns]:
    with SplitDns("example.com", "example.org") as running:
        yield running


@pytest.fixture
def bench(dns: SplitDns, tmp_path: Path) -> Bench:
    return Bench(dns, tmp_path)


def test_the_value_of_rfc_8555() -> None:
    # printf %s KEY_AUTHORIZATION | openssl dgst -sha256 -binary | basenc --base64url
    authorization = (
        "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"
    )
    assert len(dns01_value(authorization)) == 43
    assert dns01_value("") == "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"


def test_one_value_is_added_and_removed_beside_others(bench: Bench) -> None:
    bench.dns.set_text("outside", OWNER, "of somebody else; with a semicolon")
    apex, wildcard = challenge(NAME), challenge(f"*.{NAME}", "w" * 22)
    solver = bench.solver()
    assert isinstance(solver, WaitingSolver)
    for one in (apex, wildcard, apex):  # presenting twice changes nothing
        solver.present(one)
    solver.wait_until_visible()
    other = "of somebody else; with a semicolon"
    assert bench.texts() == {other, value(apex), value(wildcard)}
    solver.clean_up(apex)
    solver.clean_up(apex)
    assert bench.texts() == {other, value(wildcard)}
    solver.clean_up(wildcard)
    assert bench.texts() == {other}


@pytest.mark.parametrize("algorithm", ["hmac-sha256", "hmac-sha384", "hmac-sha512"])
def test_algorithms_and_tcp(bench: Bench, algorithm: str) -> None:
    bench.use(bench.dns.add_key("stronger", algorithm))
    bench.solver().present(challenge())
    update = next(one for one in bench.dns.queries if one.opcode == "UPDATE")
    assert (update.transport, update.key, update.rcode) == ("tcp", "stronger", "NOERROR")


def test_a_cname_is_followed_into_another_zone(bench: Bench) -> None:
    bench.dns.set("outside", OWNER, "CNAME", "hop.example.com.")
    bench.dns.set("outside", "hop.example.com", "CNAME", "intra.challenges.example.org.")
    solver = bench.solver()
    solver.present(challenge())
    solver.wait_until_visible()
    assert bench.texts("intra.challenges.example.org") == {value(challenge())}
    solver.clean_up(challenge())
    assert bench.texts("intra.challenges.example.org") == set()


def test_the_zone_is_the_public_one_although_another_is_seen_inside(tmp_path: Path) -> None:
    with SplitDns("example.com") as public, SplitDns("intra.example.com") as internal:
        bench = Bench(public, tmp_path)
        bench.solver().present(challenge())
        assert bench.texts() == {value(challenge())}
        misled = bench.refusal(resolvers=[at(internal.inside_address)])
        assert "NOTAUTH, it is not the primary of the zone intra.example.com" in misled
        assert "dns01.rfc2136.zone" in misled


def test_a_zone_that_is_named_is_taken(bench: Bench) -> None:
    bench.solver(rfc2136={"zone": "example.com"}).present(challenge())
    assert bench.texts()
    assert "is not in the zone example.org" in bench.refusal(rfc2136={"zone": "example.org"})


def test_over_ipv6(tmp_path: Path) -> None:
    with SplitDns("example.com", host="::1") as dns:
        bench = Bench(dns, tmp_path)
        solver = bench.solver()
        solver.present(challenge())
        solver.wait_until_visible()
        assert bench.texts() == {value(challenge())}


def test_the_server_by_name(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    port = bench.dns.outside_address[1]
    bench.solver(rfc2136={"server": f"localhost:{port}"}).present(challenge())
    assert bench.texts() == {value(challenge())}

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(DnsFailure, match=r"The DNS server's name ns\.invalid has no address"):
        bench.solver(rfc2136={"server": "ns.invalid"})


# --- waiting ---------------------------------------------------------------------------------


def test_every_server_is_waited_for(bench: Bench, tmp_path: Path) -> None:
    with SplitDns("example.com") as secondary:
        both = [at(bench.dns.outside_address), at(secondary.outside_address)]
        clock = bench.clock

        def catch_up(seconds: float) -> None:
            clock.sleep(seconds)
            if len(clock.slept) == 3:
                secondary.set_text("outside", OWNER, *bench.texts())

        solver = dns01_solver(bench.settings(name_servers=both), sleep=catch_up, clock=clock)
        solver.present(challenge())
        solver.wait_until_visible()
        assert len(clock.slept) == 3


def test_a_server_that_does_not_follow_is_named(bench: Bench) -> None:
    with SplitDns("example.com") as secondary:
        host, port = secondary.outside_address
        both = [at(bench.dns.outside_address), f"{host}:{port}"]
        solver = bench.solver(name_servers=both, wait_seconds=20)
        solver.present(challenge())
        with pytest.raises(DnsFailure, match=f"{OWNER} cannot be seen after 20 s: .* does not sh"):
            solver.wait_until_visible()
        assert 15 < sum(bench.clock.slept) <= 20


def test_a_server_that_is_down_stops_nothing(
    bench: Bench, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(propagation, "MESSAGE_SECONDS", 0.1)
    down = "127.0.0.1:1"
    solver = bench.solver(name_servers=[at(bench.dns.outside_address), down], wait_seconds=5)
    solver.present(challenge())
    solver.wait_until_visible()
    assert "not every name server answers: 127.0.0.1" in caplog.text
    solver = bench.solver(name_servers=[down], wait_seconds=5)
    solver.present(challenge())
    with pytest.raises(DnsFailure, match="does not answer"):
        solver.wait_until_visible()


def test_name_servers_are_found_through_the_zone(bench: Bench) -> None:
    host, port = bench.dns.outside_address
    found = AuthoritativeDns([(host, port)], port=port)
    waits = propagation.Propagation(found, seconds=5, clock=bench.clock, sleep=bench.clock.sleep)
    solver = bench.solver()
    solver._propagation = waits
    solver.present(challenge())
    solver.wait_until_visible()
    assert not bench.clock.slept
    asked = [(one.name, one.type) for one in bench.dns.queries]
    assert ("example.com", "NS") in asked
    assert ("ns1.example.com", "A") in asked


def test_without_waiting_no_server_is_asked(bench: Bench) -> None:
    solver = bench.solver(wait=False, rfc2136={"zone": "example.com"})
    solver.present(challenge())
    solver.wait_until_visible()
    assert {one.type for one in bench.dns.queries if one.opcode == "QUERY"} == {"CNAME"}


def test_stopping_ends_the_waiting(bench: Bench) -> None:
    def stop(_seconds: float) -> None:
        raise IssuanceUnfinished("The agent is stopping.")

    with SplitDns("example.com") as secondary:
        settings = bench.settings(name_servers=[at(secondary.outside_address)])
        solver = dns01_solver(settings, sleep=stop, clock=bench.clock)
        solver.present(challenge())
        with pytest.raises(IssuanceUnfinished):
            solver.wait_until_visible()


# --- what is refused -------------------------------------------------------------------------


def test_an_unknown_key(bench: Bench) -> None:
    bench.dns.remove_key("lab-key")
    said = bench.refusal()
    assert "BADKEY, it does not know the key lab-key" in said
    assert "Compare the key's name and algorithm" in said


def test_a_wrong_secret(bench: Bench) -> None:
    bench.dns.add_key()  # the same name, another secret
    assert "BADSIG, it finds the signature by the key lab-key wrong" in bench.refusal()


def test_a_key_without_the_grant(bench: Bench) -> None:
    bench.use(bench.dns.add_key("weak", names=["other.example.com"]))
    said = bench.refusal()
    assert "REFUSED, it does not let this key change this name" in said
    assert "grant weak zonesub TXT" in said


@pytest.mark.parametrize(
    ("rcode", "words"),
    [
        ("NOTZONE", "the name is not in the zone example.com"),
        ("SERVFAIL", "it could not store the change"),
        ("NOTIMP", "it knows no UPDATE"),
        ("YXDOMAIN", "YXDOMAIN."),
    ],
)
def test_other_codes(bench: Bench, rcode: str, words: str) -> None:
    bench.dns.faults.rcode(rcode, type="SOA", name="example.com")  # an UPDATE's zone section
    assert words in bench.refusal(wait=False, rfc2136={"zone": "example.com"})


def test_a_server_that_does_not_answer(bench: Bench) -> None:
    bench.dns.faults.drop(type="SOA", name="example.com")
    said = bench.refusal(wait=False, rfc2136={"zone": "example.com", "timeout": 0.3})
    assert "No answer to the UPDATE of" in said
    assert "Is it the zone's primary" in said
    assert "Connection refused" in bench.refusal(rfc2136={"server": "127.0.0.1:1"})


def test_a_zone_that_is_not_found(bench: Bench) -> None:
    with SplitDns("com", "corp-only.com") as dns:
        dns.remove("outside", "corp-only.com", "SOA")
        outside = at(dns.outside_address)
        solver = bench.solver(resolvers=[outside], name_servers=[])
        with pytest.raises(IssuanceUnavailable, match=r"The zone of .* was not found"):
            solver.present(challenge("www.unregistered.com"))


def test_a_loop_of_cnames(bench: Bench) -> None:
    bench.dns.set("outside", OWNER, "CNAME", "a.example.org.")
    bench.dns.set("outside", "a.example.org", "CNAME", f"{OWNER}.")
    said = bench.refusal(IssuanceRejected)
    assert "do not end" in said
    assert "Mend the CNAME in the public zone" in said


def test_a_cname_to_a_name_made_to_be_run_by_a_shell(bench: Bench) -> None:
    bench.dns.set("outside", OWNER, "CNAME", r"$\(id\).example.org.")
    assert "which is no name that a record could be written under" in bench.refusal()


def test_no_resolver_answers(bench: Bench) -> None:
    solver = bench.solver(resolvers=["127.0.0.1:1"])
    solver._dns._timeout = 0.1
    with pytest.raises(IssuanceError, match=r"could not be looked up: .*no answer"):
        solver.present(challenge())


def test_another_resolver_is_asked(bench: Bench) -> None:
    solver = bench.solver(resolvers=["127.0.0.1:1", at(bench.dns.outside_address)])
    solver._dns._timeout = 0.1
    solver.present(challenge())
    assert bench.texts()


def test_time_goes_by_quickly(bench: Bench) -> None:
    begun = time.monotonic()
    solver = bench.solver()
    names = [f"host{number}.example.com" for number in range(20)]
    for name in names:
        solver.present(challenge(name))
    solver.wait_until_visible()
    assert time.monotonic() - begun < 10
