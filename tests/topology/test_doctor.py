"""The doctor in the world: one that is well, and forty faults, each staged with real programs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dns.flags
import dns.message
import dns.query
import pytest

from internal_puller.install import notes
from tests.faketime import other_time
from tests.lab import SplitDns
from tests.lab.peers import require
from tests.line import Running, active, wait_until
from tests.signed_bind import SignedBind, State
from tests.squid import Squid, squid

from .conftest import LabStage, nginx_conf, play, self_signed
from .namespaces import configure
from .world import (
    GATEWAY,
    INTERNET,
    INTERNET_IPV6,
    INTRANET,
    VM,
    VM_IPV6,
    WWW,
    inside_dns,
    lab_ca,
    outside_dns,
    world,
)

pytestmark = [pytest.mark.topology, pytest.mark.timeout(240)]
SECOND_PORT, VERIFYING_PORT = 5353, 5300
NAME_SERVER = "203.0.113.2"
RESOLVERS = [INTERNET, f"{INTERNET}:{SECOND_PORT}"]
YEARS = 3 * 366 * 86400
GOOD = ("ok", "note")
WORST = ("problem", "warning", "unknown", "note")


@dataclass
class Clinic:
    """A line that is well, and what there is to break in it."""

    stage: LabStage
    outside: SplitDns
    inside: SplitDns
    second: SplitDns
    directory: Path
    proxy: Squid
    serving: Running

    def look(self, who: str = "puller") -> tuple[bool, list[dict[str, Any]], str]:
        """Run `doctor --json`; return whether all is well, what was found, and the summary."""
        program = self.stage.puller if who == "puller" else self.stage.agent
        done = program.call("doctor", "--json", expect=None)
        assert "Traceback" not in done.err, done.err
        found = json.loads(done.out)
        assert done.code == (0 if found["healthy"] else 13), done.err
        if who == "agent":
            return found["healthy"], found["findings"], found["summary"]
        findings = [
            *found["together"],
            *found["puller"]["findings"],
            *((found["agent"] or {}).get("findings") or ()),
        ]
        return found["healthy"], findings, found["summary"]


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    if os.geteuid() != 0:
        pytest.skip("namespaces need root")
    for program in ("ip", "nft", "ss", "nginx", "openssl", "named", "squid", "faketime"):
        require(program)
    base = tmp_path_factory.mktemp("clinic")
    with world() as built, outside_dns(built) as outside, inside_dns(built) as inside:
        with built.internet.entered():
            second = SplitDns("example.com", "com", outside_host=INTERNET, outside_port=SECOND_PORT)
            second.set("outside", WWW, "A", VM)
            second.start()
        with (
            contextlib.closing(second),
            lab_ca(built, outside) as ca,
            play(built, ca.directory_url, ca.tls_root_pem, base) as made,
            squid(built.nat.argv, GATEWAY) as proxy,
        ):
            stage = LabStage(**vars(made), ca=ca)
            with stage.agent.config.open("a") as settings:
                settings.write(f"\n[doctor]\nresolvers = {json.dumps(RESOLVERS)}\n")
            stage.puller.settings(timeout=25.0)
            with stage.agent.serving() as serving:
                stage.puller.enroll(stage.agent.add(WWW))
                directory = stage.puller.target(WWW, ca.root_pem, "--preset", "nginx")
                stage.configure_nginx(directory / "current")
                wait_until(lambda: stage.puller.pull() and active(directory))
                yield Clinic(stage, outside, inside, second, directory, proxy, serving)


def test_nothing_is_found_where_nothing_is_wrong(clinic: Clinic) -> None:
    for who in ("puller", "agent"):
        healthy, findings, summary = clinic.look(who)
        bad = [one for one in findings if one["verdict"] not in ("ok", "note")]
        assert (healthy, bad) == (True, []), bad
        assert "Nothing is wrong" in summary
    with outside("AAAA", VM_IPV6)(clinic):
        _, findings, summary = clinic.look()
    assert "Nothing is wrong" in summary
    checks = {one["check"] for one in findings if one["verdict"] == "ok"}
    assert {
        *("split-dns", "internal-dns", "relay", "clock", "target", "configuration", "served"),
        *(
            "public-dns",
            "reach-ipv4",
            "reach-ipv6",
            "ca-directory",
            "ca-account",
            "files",
            "relay-url",
        ),
    } <= checks
    said = clinic.stage.puller.call("doctor").out
    assert said.startswith("Nothing is wrong;") and "the agent, " in said
    assert (
        "split-dns" not in said and "split-dns" in clinic.stage.puller.call("doctor", "--all").out
    )


# --- the faults ------------------------------------------------------------------------------

Staged = Callable[[Clinic], AbstractContextManager[None]]


@contextlib.contextmanager
def record(dns: SplitDns, view: str, name: str, kind: str, *values: str) -> Iterator[None]:
    before = dns.get(view, name, kind)
    dns.set(view, name, kind, *values)
    try:
        yield
    finally:
        dns.set(view, name, kind, *before)


def outside(kind: str, *values: str, name: str = WWW) -> Staged:
    @contextlib.contextmanager
    def staged(clinic: Clinic) -> Iterator[None]:
        with (
            record(clinic.outside, "outside", name, kind, *values),
            record(clinic.second, "outside", name, kind, *values),
        ):
            yield

    return staged


def inside(*values: str) -> Staged:
    return lambda clinic: record(clinic.inside, "inside", WWW, "A", *values)


def at_second_resolver(*values: str) -> Staged:
    return lambda clinic: record(clinic.second, "outside", WWW, "A", *values)


@contextlib.contextmanager
def name_server_says_no(clinic: Clinic) -> Iterator[None]:
    clinic.second.faults.rcode("SERVFAIL", times=None)
    try:
        yield
    finally:
        clinic.second.faults.clear()


def another_web_server(kind: str, address: str) -> Staged:
    """The name leads to a machine of somebody else, which answers."""

    @contextlib.contextmanager
    def staged(clinic: Clinic) -> Iterator[None]:
        host = clinic.stage.world.internet
        with outside(kind, address)(clinic):
            server = subprocess.Popen(
                host.argv(sys.executable, "-m", "http.server", "80", "--bind", address),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=clinic.stage.agent.base / "state" / "..",
            )
            try:
                wait_until(lambda: address in host.run("ss", "-Hltn", "sport", "80"))
                yield
            finally:
                server.terminate()
                server.wait(10)

    return staged


def ca_fault(stage: Callable[[Clinic], Any]) -> Staged:
    @contextlib.contextmanager
    def staged(clinic: Clinic) -> Iterator[None]:
        stage(clinic)
        try:
            yield
        finally:
            clinic.stage.ca.faults.clear()

    return staged


@contextlib.contextmanager
def file_mode(path: Path, mode: int) -> Iterator[None]:
    before = path.stat().st_mode
    path.chmod(mode)
    try:
        yield
    finally:
        path.chmod(before)


@contextlib.contextmanager
def text_of(path: Path, change: Callable[[str], str]) -> Iterator[None]:
    before = path.read_text()
    changed = change(before)
    assert changed != before
    path.write_text(changed)
    try:
        yield
    finally:
        path.write_text(before)


def targets(change: Callable[[str], str]) -> Staged:
    return lambda clinic: text_of(clinic.stage.puller.base / "targets.toml", change)


def puller_setting(line: str) -> Staged:
    return lambda clinic: text_of(clinic.stage.puller.config, lambda text: text + line + "\n")


def with_line(line: str) -> Callable[[str], str]:
    return lambda text: text.replace("[[target]]\n", f"[[target]]\n{line}\n", 1)


@contextlib.contextmanager
def old_certificate_served(clinic: Clinic) -> Iterator[None]:
    old = clinic.stage.nginx / "old"
    old.mkdir(exist_ok=True)
    (old / "fullchain.pem").write_text(self_signed(old))
    clinic.stage.configure_nginx(old)
    reload_nginx(clinic)
    try:
        yield
    finally:
        clinic.stage.configure_nginx(clinic.directory / "current")
        reload_nginx(clinic)
        wait_until(lambda: clinic.look()[0], what="nginx serves what is in place again")


def reload_nginx(clinic: Clinic) -> None:
    clinic.stage.world.intranet.run("nginx", "-s", "reload")


@contextlib.contextmanager
def broken_configuration(clinic: Clinic) -> Iterator[None]:
    with text_of(clinic.stage.nginx / "nginx.conf", lambda text: text + "nonsense;\n"):
        yield


@contextlib.contextmanager
def cut_off(clinic: Clinic) -> Iterator[None]:
    with (
        puller_setting("")(clinic),
        text_of(clinic.stage.puller.config, lambda text: text.replace("25.0", "3.0")),
        clinic.stage.world.cut("both"),
    ):
        yield


@contextlib.contextmanager
def only_a_proxy_leads_out(clinic: Clinic) -> Iterator[None]:
    nat = clinic.stage.world.nat
    rule = "tcp dport 8443 reject with tcp reset"
    nat.run("nft", "add", "rule", "inet", "gate", "cut", *rule.split())
    try:
        yield
    finally:
        nat.run("nft", "flush", "chain", "inet", "gate", "cut")


def signed(state: State) -> Staged:
    """All that the doctor asks verifies, as a CA does: a zone that is really signed."""

    @contextlib.contextmanager
    def staged(clinic: Clinic) -> Iterator[None]:
        host = clinic.stage.world.internet
        configure(host, f"address replace {NAME_SERVER}/24 dev segment")
        resolver = f"{INTERNET}:{VERIFYING_PORT}"
        with SignedBind(
            "example.com",
            {"www.intra": [f"A {VM}"]},
            state=state,
            zones=NAME_SERVER,
            resolver=INTERNET,
            port=VERIFYING_PORT,
            host=host.argv,
        ):
            assert verified(clinic) == (state == "good")
            with asked_by_the_agent(clinic, resolver):
                yield

    return staged


def verified(clinic: Clinic) -> bool:
    """Whether the resolver vouches for its answer."""
    query = dns.message.make_query(WWW, "A", want_dnssec=True)
    with clinic.stage.world.vm.entered():
        answer = dns.query.udp(query, INTERNET, timeout=10, port=VERIFYING_PORT)
    return bool(answer.answer) and bool(answer.flags & dns.flags.AD)


@contextlib.contextmanager
def asked_by_the_agent(clinic: Clinic, resolver: str) -> Iterator[None]:
    """Have doctor.resolvers name this one alone."""
    known, changed = json.dumps(RESOLVERS), json.dumps([resolver])
    with text_of(clinic.stage.agent.config, lambda text: text.replace(known, changed)):
        read_again(clinic)
        yield
    read_again(clinic)


def read_again(clinic: Clinic) -> None:
    """Have the agent read its settings."""

    def times() -> int:
        return clinic.serving.text().count("settings reloaded")

    before = times()
    os.kill(clinic.serving.pid, signal.SIGHUP)
    wait_until(lambda: times() > before, what="the agent has read its settings")


def opened(*, root_known: bool) -> Staged:
    """The only way out is a proxy that opens TLS."""

    @contextlib.contextmanager
    def staged(clinic: Clinic) -> Iterator[None]:
        proxy = clinic.proxy
        lines = f'proxy = "{proxy.opening_url}"\n'
        if root_known:
            own = clinic.stage.puller.config.with_name("proxy.pem")
            own.write_bytes(proxy.root.read_bytes())  # its directory is another account's
            lines += f'roots_file = "{own}"\n'
        with only_a_proxy_leads_out(clinic), puller_setting(lines)(clinic):
            yield

    return staged


def pullers_clock(seconds: int) -> Staged:
    @contextlib.contextmanager
    def staged(clinic: Clinic) -> Iterator[None]:
        puller = clinic.stage.puller
        before = puller.environment
        puller.environment = {**before, **other_time(seconds)}
        try:
            yield
        finally:
            puller.environment = before

    return staged


def both(*faults: Staged) -> Staged:
    @contextlib.contextmanager
    def staged(clinic: Clinic) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for fault in faults:
                stack.enter_context(fault(clinic))
            yield

    return staged


@contextlib.contextmanager
def relay_port_closed(clinic: Clinic) -> Iterator[None]:
    vm = clinic.stage.world.vm
    rule = "tcp dport 8443 reject with tcp reset"
    vm.run("nft", "insert", "rule", "inet", "watch", "input", *rule.split())
    try:
        yield
    finally:
        vm.run("nft", "flush", "chain", "inet", "watch", "input")


@contextlib.contextmanager
def suspended(clinic: Clinic) -> Iterator[None]:
    (row,) = clinic.stage.agent.status()["certificates"][0]["pullers"]
    clinic.stage.agent.call("puller", "suspend", row["puller"])
    try:
        yield
    finally:
        clinic.stage.agent.call("puller", "confirm", row["puller"])
        clinic.stage.puller.pull(expect=None)


@contextlib.contextmanager
def another_state(clinic: Clinic) -> Iterator[None]:
    empty = clinic.stage.puller.base / "empty"
    empty.mkdir(mode=0o700, exist_ok=True)
    state = clinic.stage.puller.state
    with text_of(clinic.stage.puller.config, lambda text: text.replace(str(state), str(empty))):
        yield


def signing_key(who: str) -> Staged:
    def staged(clinic: Clinic) -> AbstractContextManager[None]:
        program = clinic.stage.agent if who == "agent" else clinic.stage.puller
        name = "agent-signing.key" if who == "agent" else "signing.key"
        return file_mode(program.state / name, 0o644)

    return staged


@contextlib.contextmanager
def a_cut_off_installation(clinic: Clinic) -> Iterator[None]:
    state = clinic.stage.puller.state
    member = notes.Noted("www", "1", None)
    notes.write(state, notes.Note("cut-off", "", {str(clinic.directory): member}))
    try:
        yield
    finally:
        notes.drop(state, "cut-off")


ISSUER = "lab-ca.example"
FAULTS: dict[str, tuple[Staged, str, str, str]] = {
    # what is broken: how, the check that finds it, its verdict, words of what it says
    "public address elsewhere": (outside("A", INTERNET), "reach-ipv4", "problem", "Nobody answers"),
    "another web server there": (
        another_web_server("A", INTERNET),
        *("reach-ipv4", "problem", "is answered by"),
    ),
    "IPv6 elsewhere": (
        another_web_server("AAAA", INTERNET_IPV6),
        *("reach-ipv6", "problem", "is answered by"),
    ),
    "nobody at the IPv6 address": (
        outside("AAAA", "2001:db8:203::7"),
        *("reach-ipv6", "problem", "Nobody answers"),
    ),
    "no public address": (outside("A"), "public-dns", "problem", "has no address in the public"),
    "an old answer": (at_second_resolver("192.0.2.9"), "resolvers", "warning", "192.0.2.9"),
    "a resolver that fails": (name_server_says_no, "resolvers", "unknown", "SERVFAIL"),
    "signatures of the zone expired": (
        signed("expired"),
        *("dnssec", "problem", "its DNSSEC signatures do not verify"),
    ),
    "DS record of another key": (
        signed("another key"),
        *("dnssec", "problem", "its DNSSEC signatures do not verify"),
    ),
    "CAA forbids": (
        outside("CAA", '0 issue "other.example"', name="example.com"),
        *("caa", "problem", "CAA forbids"),
    ),
    "CAA names another account": (
        outside("CAA", f'0 issue "{ISSUER}; accounturi=https://ca.example.com/acct/other"'),
        *("caa", "problem", "binds www.intra.example.com to the account"),
    ),
    "CAA permits another method": (
        outside("CAA", f'0 issue "{ISSUER}; validationmethods=dns-01"'),
        *("caa", "problem", "be validated by dns-01 only"),
    ),
    "the puller's clock behind": (
        pullers_clock(-900),
        *("clock", "problem", "s behind the agent's. Nothing is accepted"),
    ),
    "the puller's clock ahead": (
        pullers_clock(900),
        *("clock", "problem", "s ahead of the agent's. Nothing is accepted"),
    ),
    "the puller's clock a little off": (
        pullers_clock(-100),
        *("clock", "warning", "s behind the agent's."),
    ),
    "CA away": (
        ca_fault(lambda clinic: clinic.stage.ca.faults.cut("directory", times=None)),
        *("ca-directory", "problem", "cannot be read"),
    ),
    "same answer inside": (inside(VM), "split-dns", "problem", "same answer inside as outside"),
    "same answer outside": (
        outside("A", INTRANET),
        "split-dns",
        "problem",
        "same answer outside as inside",
    ),
    "another machine inside": (
        inside("10.20.30.99"),
        "internal-dns",
        "warning",
        "is not this machine",
    ),
    "no address inside": (inside(), "internal-dns", "problem", "has no address inside"),
    "two machines inside": (
        inside(INTRANET, "10.20.30.99"),
        "internal-dns",
        "note",
        "10.20.30.99 is another machine",
    ),
    "cut off": (cut_off, "relay", "problem", "asked directly"),
    "proxy that is not there": (
        puller_setting('proxy = "http://10.20.30.1:3128"'),
        *("relay", "problem", "through the proxy http://10.20.30.1:3128"),
    ),
    "the puller's clock after the end of a certificate": (
        both(opened(root_known=True), pullers_clock(YEARS)),
        *("clock", "problem", "certificate has expired"),
    ),
    "TLS opened by a proxy": (
        opened(root_known=False),
        *("relay-tls", "problem", "does not verify"),
    ),
    "TLS opened by a proxy whose root is known": (
        opened(root_known=True),
        *("relay-tls", "note", "a proxy that opens TLS"),
    ),
    "relay closed": (relay_port_closed, "relay", "problem", "cannot be reached"),
    "suspended": (suspended, "enrolment", "problem", "confirm"),
    "not enrolled": (another_state, "enrolment", "problem", "is not enrolled"),
    "loose key here": (signing_key("puller"), "state", "problem", "0644"),
    "loose key at the agent": (
        signing_key("agent"),
        "files",
        "problem",
        "Something is not well on the agent's machine",
    ),
    "reload missing": (
        targets(with_line('reload_command = ["no-such-reload"]')),
        *("target", "problem", "'no-such-reload' does not exist"),
    ),
    "nothing reloads": (
        targets(with_line("reload_command = []")),
        "reload",
        "warning",
        "No command reloads",
    ),
    "configuration broken": (
        broken_configuration,
        "configuration",
        "problem",
        "nginx -t ended with exit code 1",
    ),
    "another certificate served": (
        old_certificate_served,
        "served",
        "problem",
        "serves another certificate",
    ),
    "nothing listens": (
        targets(with_line(f'probe = [{{address = "127.0.0.1", port = 444, sni = "{WWW}"}}]')),
        *("served", "problem", "No certificate was seen"),
    ),
    "nobody looks": (targets(with_line("probe = []")), "served", "unknown", "has no probe"),
    "near its end": (
        puller_setting("warn_below = 0.9999"),
        "installed",
        "warning",
        "is good until",
    ),
    "an installation cut off": (a_cut_off_installation, "target", "warning", "was cut off"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named(clinic: Clinic, fault: str) -> None:
    staged, check, verdict, words = FAULTS[fault]
    with staged(clinic):
        healthy, findings, summary = clinic.look()
    said = [one for one in findings if (one["check"], one["verdict"]) == (check, verdict)]
    assert any(words in one["what"] for one in said), (said, findings)
    assert all(one["do"] or one["verdict"] == "note" for one in said), "and the next step"
    assert healthy == (verdict == "note")
    assert min(WORST.index(one["verdict"]) for one in findings if one["verdict"] in WORST) == (
        WORST.index(verdict)
    ), findings
    if verdict == "problem":
        assert "Nothing is wrong" not in summary


def test_the_agent_shows_what_the_puller_saw_last(clinic: Clinic) -> None:
    with inside(VM)(clinic):
        clinic.look()
        _, findings, _ = clinic.look("agent")
    both = [one for one in findings if one["side"] == "both"]
    assert [one["verdict"] for one in both] == ["problem"]
    assert {one["side"] for one in findings} == {"agent", "both", "puller"}
    clinic.look()
    assert clinic.look("agent")[0]


def test_the_proxy_on_offer_is_the_way_out(clinic: Clinic) -> None:
    with only_a_proxy_leads_out(clinic):
        healthy, findings, _ = clinic.look()
        (said,) = [one for one in findings if one["verdict"] == "problem"]
        assert not healthy and "cannot be reached" in said["what"]
        assert "asked directly" in said["what"] and "proxy in puller.toml" in said["do"]
        with puller_setting(f'proxy = "{clinic.proxy.url}"')(clinic):  # as it says
            healthy, findings, _ = clinic.look()
    assert healthy, findings
    assert any(f"asked through the proxy {clinic.proxy.url}" in one["what"] for one in findings)


def test_signatures_that_verify_are_no_fault(clinic: Clinic) -> None:
    with signed("good")(clinic):
        healthy, findings, _ = clinic.look()
    assert healthy, findings
    assert any(one["check"] == "public-dns" and "1 resolvers" in one["what"] for one in findings)


@contextlib.contextmanager
def port_80_taken(clinic: Clinic, base: Path) -> Iterator[None]:
    """A web server was there before the agent, which therefore does not run."""
    (base / "nginx.conf").write_text(nginx_conf(base, 'listen 80; return 200 "ours";'))
    vm = clinic.stage.world.vm
    clinic.serving.stop()
    server = subprocess.Popen(
        vm.argv("nginx", "-g", "daemon off;", "-c", str(base / "nginx.conf")),
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: "0.0.0.0:80 " in vm.run("ss", "-Hltn"), what="nginx listens")
        yield
    finally:
        server.terminate()
        server.wait(10)
        clinic.serving.start()
        clinic.stage.agent.await_listening(clinic.serving)


def test_the_agents_port_taken_and_its_clock_off(clinic: Clinic, tmp_path: Path) -> None:
    """Both at once, as each look by an agent that does not run costs seconds."""
    agent = clinic.stage.agent
    with port_80_taken(clinic, tmp_path):
        for seconds, words in (
            (-900, "s behind that of ca.example.com"),
            (-YEARS, "the TLS certificate of ca.example.com is not yet valid"),
            (YEARS, "the TLS certificate of ca.example.com has expired"),
        ):
            before = agent.environment
            agent.environment = {**before, **other_time(seconds)}
            try:
                _, findings, _ = clinic.look("agent")
            finally:
                agent.environment = before
            problems = {one["check"]: one for one in findings if one["verdict"] == "problem"}
            unreadable = {"ca-directory"} if abs(seconds) == YEARS else set()
            assert problems.keys() == {"listeners", "clock", *unreadable}, problems
            assert "Another program holds 0.0.0.0:80" in problems["listeners"]["what"]
            assert "deploy/nginx" in problems["listeners"]["do"]
            assert words in problems["clock"]["what"], problems
            assert "Nothing is ordered" in problems["clock"]["what"]
            assert all(
                "timedatectl" in problems[one]["do"] for one in problems.keys() - {"listeners"}
            )
            assert any("does not run" in one["what"] for one in findings)
