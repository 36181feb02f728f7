"""The words of each verdict: what, where, what it means by what is in place, what next."""

from __future__ import annotations

from dataclasses import replace

import pytest

from internal_puller.install.server import Running, Server
from internal_puller.install.words import About, error_of
from internal_puller.outbox.look import Answer, Look
from internal_puller.outbox.verdict import BACK, ERRORS, Verdict
from shared.contract.errors import InstallError

NEW, OLD, THIRD = "a1" * 32, "b2" * 32, "c3" * 32
NGINX = Server("nginx", "", ("nginx", "-t"), ("systemctl", "reload", "nginx"), "nginx.service")
BAD = tuple(one for one, kind in ERRORS.items() if kind is not None)


def see(leaf: str | None, why: str = "", whose: str = "") -> tuple[Look, ...]:
    answer = Answer.PROVEN if leaf else Answer.NOT_KNOWN
    return (Look("192.0.2.7", 443, "www.example.com", answer, leaf, whose=whose, why=why),)


def about(looks: tuple[Look, ...] = (), before: tuple[Look, ...] = (), detail: str = "") -> About:
    return About("www", 200, NEW, NGINX, 100, Running.YES, detail, before, looks)


def told(verdict: Verdict, case: About) -> InstallError:
    error = error_of(verdict, case)
    assert error is not None
    return error


@pytest.mark.parametrize(
    ("verdict", "case", "what"),
    [
        (
            Verdict.NOT_TAKEN_UP,
            about(see(OLD)),
            "nginx goes on showing the certificate before: www.example.com at 192.0.2.7 port 443: "
            "leaf b2b2b2b2b2b2b2b2",
        ),
        (
            Verdict.ANOTHER_SERVER,
            about(see(THIRD, whose="old.example.com")),
            "another certificate is shown, as it was before: www.example.com at 192.0.2.7 port "
            "443: leaf c3c3c3c3c3c3c3c3 of old.example.com; the probe looks at another server, or "
            "nginx reads other files",
        ),
        (
            Verdict.SEEN_BEFORE,
            about(see(NEW), see(NEW)),
            "seen before it was put in place: www.example.com at 192.0.2.7 port 443: leaf "
            "a1a1a1a1a1a1a1a1; the probe does not look at this server alone",
        ),
        (
            Verdict.CANNOT_BE_SEEN,
            about(see(None, "no answer in 5 s")),
            "cannot be seen from here: www.example.com at 192.0.2.7 port 443: no answer in 5 s",
        ),
        (
            Verdict.NOT_RUNNING,
            about(),
            "nginx is not running; start it (systemctl start nginx.service)",
        ),
        (
            Verdict.RELOAD_FAILED,
            about(detail="exit code 1: no such unit"),
            "nginx could not be told to reload: exit code 1: no such unit",
        ),
        (
            Verdict.BROKEN_BEFORE,
            about(detail="exit code 1: unknown directive"),
            "the configuration of nginx was already broken: exit code 1: unknown directive",
        ),
        (
            Verdict.NOT_CAUSED,
            about(see(None, "refused"), see(OLD)),
            "not caused by the certificate: what was served before did not come back without it: "
            "www.example.com at 192.0.2.7 port 443: refused",
        ),
        (
            Verdict.WORSE_AND_KEPT,
            about(see(None, "refused"), see(OLD)),
            "with it, nginx got worse: www.example.com at 192.0.2.7 port 443: refused (before: "
            "leaf b2b2b2b2b2b2b2b2)",
        ),
        (
            Verdict.BACK_BY_TEST,
            about(detail="exit code 1: key too small"),
            "with it, nginx refuses its configuration: exit code 1: key too small",
        ),
        (
            Verdict.BACK_BY_LEAF,
            about(see(THIRD, whose="old.example.com"), see(OLD)),
            "with it, nginx got worse: www.example.com at 192.0.2.7 port 443: leaf "
            "c3c3c3c3c3c3c3c3 of old.example.com (before: leaf b2b2b2b2b2b2b2b2)",
        ),
        (
            Verdict.BACK_BY_DEATH,
            about(detail="exit code 0"),
            "nginx ran before, and its reload with it ended it (exit code 0)",
        ),
        (
            Verdict.BACK_UNSEEN,
            about(see(None, "refused"), see(OLD)),
            "nginx got worse, and is not as before after going back: www.example.com at 192.0.2.7 "
            "port 443: refused",
        ),
    ],
)
def test_each_verdict_says_what_happened_and_where(
    verdict: Verdict, case: About, what: str
) -> None:
    error = told(verdict, case)
    assert error.what == f"www, generation 200: {what}."
    assert type(error) is ERRORS[verdict]
    assert error.exit_code == (12 if verdict is Verdict.BACK_UNSEEN else 9)
    assert error.means and error.do


def test_what_is_good_is_no_error() -> None:
    assert error_of(Verdict.SERVED, about(see(NEW))) is None
    assert error_of(Verdict.IN_PLACE, about()) is None


@pytest.mark.parametrize("verdict", sorted(BACK))
def test_of_a_first_certificate_no_previous_one_is_spoken_of(verdict: Verdict) -> None:
    first = told(verdict, replace(about(detail="x"), previous=None))
    assert first.means.startswith("No certificate was in place here before, and none is now")
    assert told(verdict, about(detail="x")).means.startswith("Generation 100 is in place again")


def test_without_its_words_no_install_error_speaks_of_a_previous_certificate() -> None:
    for kind in [InstallError, *InstallError.__subclasses__()]:
        if kind is not ERRORS[Verdict.WORSE_AND_KEPT]:  # never of a first one: see the judge
            assert "one before" not in kind.means
            assert "revious" not in kind.means


@pytest.mark.parametrize(
    ("server", "ran", "what"),
    [
        (NGINX, Running.NO, "nginx is not running; start it (systemctl start nginx.service)"),
        (
            NGINX,
            Running.FAILED,
            "nginx has failed; start it (systemctl reset-failed nginx.service && systemctl start "
            "nginx.service)",
        ),
        (
            replace(NGINX, machine="relay@web:22"),
            Running.NO,
            "nginx on relay@web:22 is not running; start it there (systemctl start nginx.service)",
        ),
        (replace(NGINX, unit=None, name="mine"), Running.NO, "mine is not running; start it"),
    ],
)
def test_what_is_not_running_is_started_by_a_command_to_paste(
    server: Server, ran: Running, what: str
) -> None:
    error = told(Verdict.NOT_RUNNING, replace(about(), server=server, ran=ran))
    assert error.what == f"www, generation 200: {what}."


def test_it_names_the_machine_of_a_server_elsewhere() -> None:
    there = replace(NGINX, machine="relay@web:22")
    error = told(Verdict.RELOAD_FAILED, replace(about(detail="exit code 1"), server=there))
    assert error.what == (
        "www, generation 200: nginx on relay@web:22 could not be told to reload: exit code 1."
    )


def test_of_several_addresses_only_those_at_fault_are_named() -> None:
    one, other = see(NEW)[0], replace(see(OLD)[0], address="192.0.2.8")
    error = told(Verdict.NOT_TAKEN_UP, about((one, other)))
    assert "192.0.2.8" in error.what
    assert "192.0.2.7" not in error.what


def test_a_server_without_a_name_is_that_of_its_directory() -> None:
    error = told(Verdict.NOT_TAKEN_UP, replace(about(), server=replace(NGINX, name="/srv/tls/a")))
    assert "the server of /srv/tls/a goes on showing" in error.what
