"""The driver's decisions, on a clock that only sleeping moves."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from itertools import cycle

import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from shared.acme.chain import check_issued_chain, has_issuer
from shared.acme.order import MOST_FAILURES_IN_A_ROW, drive_order
from shared.acme.ports import ChallengeSolver, IssuedChain, OrderState, PendingChallenge
from shared.contract.errors import (
    IssuanceRateLimited,
    IssuanceRejected,
    IssuanceUnavailable,
    IssuanceUnfinished,
    PolicyError,
    StoreUnavailable,
)
from shared.contract.identifiers import DnsName
from shared.contract.x509 import chain_to_pem, common_name, load_roots, make_csr
from tests.authority import common_authority
from tests.unit.shared.acme.doubles import MovedClock, RecordedJournal, RecordedSolver, csr_for
from tests.unit.shared.acme.fake_ca import ORDER, FakeCa, authorization
from tests.vectors.chain_vectors import through
from tests.vectors.world import DAY, INTERMEDIATE, NOW, YEAR, certificate, ec_key, leaf
from tests.vectors.world import NAME as VECTOR_NAME

NAME = "www.intra.example.com"
PROBLEM = {"type": "urn:ietf:params:acme:error:dns", "detail": "no such name", "status": 400}


@pytest.fixture(scope="module")
def issued() -> tuple[bytes, bytes]:
    """A CSR and the chain that answers it."""
    leaf = trustme.CA().create_child_ca().issue_cert(NAME)
    key = load_pem_private_key(leaf.private_key_pem.bytes(), None)
    chain = b"".join(one.bytes() for one in leaf.cert_chain_pems)
    return csr_for([NAME], key), chain  # type: ignore[arg-type]


@dataclass
class Bench:
    ca: FakeCa
    csr_pem: bytes
    clock: MovedClock = field(default_factory=MovedClock)
    journal: RecordedJournal = field(default_factory=RecordedJournal)
    solver: RecordedSolver = field(default_factory=RecordedSolver)

    def drive(
        self,
        order_url: str | None = None,
        solvers: dict[str, ChallengeSolver] | None = None,
        **more: object,
    ) -> IssuedChain:
        return drive_order(
            self.ca,
            names=self.ca.names,
            csr_pem=self.csr_pem,
            order_url=order_url,
            solvers={"http-01": self.solver} if solvers is None else solvers,
            journal=self.journal,
            clock=self.clock,
            sleep=self.clock.sleep,
            **{"adopt_unfinished": True, **more},  # type: ignore[arg-type]
        )


@pytest.fixture
def bench(issued: tuple[bytes, bytes]) -> Bench:
    csr_pem, chain = issued
    return Bench(FakeCa([NAME], chain=chain), csr_pem)


def test_from_nothing_to_a_chain(bench: Bench) -> None:
    result = bench.drive()
    assert result.order_url == ORDER
    assert result.chain_pem == bench.ca.chain
    assert bench.ca.calls == [
        "check_clock",
        "find_unfinished_order",
        "new_order",
        "fetch_order",
        "fetch_authorization",
        "answer_challenge",
        "fetch_order",
        "fetch_authorization",
        "fetch_order",
        "finalize",
        "fetch_order",
        "download_chain",
    ]
    assert bench.journal.lines == ["order_created", "finalizing", "certificate_url"]


def test_an_adopted_order_is_recorded_and_not_doubled(bench: Bench) -> None:
    bench.ca.unfinished = True
    bench.drive()
    assert "new_order" not in bench.ca.calls
    assert bench.journal.order_url == ORDER


def test_the_list_is_not_asked_when_nothing_can_have_been_lost(bench: Bench) -> None:
    bench.drive(adopt_unfinished=False)
    assert "find_unfinished_order" not in bench.ca.calls


def test_a_known_order_is_neither_made_nor_recorded_again(bench: Bench) -> None:
    bench.drive(ORDER)
    assert "new_order" not in bench.ca.calls
    assert bench.journal.lines == ["finalizing", "certificate_url"]


def test_pauses_grow_from_a_quarter_of_a_second(bench: Bench) -> None:
    bench.ca.polls_to_issue = 7
    bench.drive()
    assert bench.clock.slept[-8:] == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]


def test_the_cas_own_pause_is_kept(bench: Bench) -> None:
    bench.ca.polls_to_issue = 2
    bench.ca.order = replace(bench.ca.order, retry_after=7.0)
    bench.drive()
    assert bench.clock.slept[-3:] == [7.0, 7.0, 7.0]


def test_no_pause_is_shorter_than_a_quarter_of_a_second(bench: Bench) -> None:
    bench.ca.order = replace(bench.ca.order, retry_after=0.0)
    bench.drive()
    assert min(bench.clock.slept) == 0.25


def test_the_deadline_ends_waiting_and_keeps_the_order(bench: Bench) -> None:
    bench.ca.polls_to_issue = 10_000
    began = bench.clock.now
    with pytest.raises(IssuanceUnfinished, match="processing"):
        bench.drive(deadline_seconds=60)
    assert bench.clock.now - began <= 60


def test_a_pause_beyond_the_deadline_is_handed_on_at_once(bench: Bench) -> None:
    bench.ca.order = replace(bench.ca.order, retry_after=3600.0)
    with pytest.raises(IssuanceUnfinished) as raised:
        bench.drive()
    assert raised.value.retry_after == 3600.0
    assert sum(bench.clock.slept) < 1
    assert not bench.solver.present_now


def test_an_order_that_stays_ready_after_finalize_is_waited_for(bench: Bench) -> None:
    """Some CAs show `processing` late, or never (golang/go#52597)."""
    bench.ca.while_issuing = cycle(["ready"])
    bench.ca.polls_to_issue = 7
    assert bench.drive().chain_pem
    assert bench.ca.calls.count("finalize") == 1
    assert bench.clock.slept[-8:] == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]


def test_the_cas_own_pause_is_kept_while_the_order_stays_ready(bench: Bench) -> None:
    bench.ca.while_issuing = cycle(["ready"])
    bench.ca.polls_to_issue = 2
    bench.ca.order = replace(bench.ca.order, retry_after=7.0)
    bench.drive()
    assert bench.clock.slept[-3:] == [7.0, 7.0, 7.0]


@pytest.mark.parametrize("retry_after", [None, 0.0])
@pytest.mark.parametrize(
    "statuses",
    [
        ["ready"],
        ["processing"],
        ["processing", "ready"],
        ["ready", "pending"],
        ["valid"],
        ["valid", "ready", "processing", "pending"],
    ],
    ids="-".join,
)
def test_whatever_is_shown_after_finalize_the_run_ends_at_its_deadline(
    bench: Bench, statuses: list[str], retry_after: float | None
) -> None:
    """Also an order that goes back, and a `valid` one without a certificate."""
    bench.ca.while_issuing = cycle(statuses)
    bench.ca.polls_to_issue = 10_000
    bench.ca.order = replace(bench.ca.order, retry_after=retry_after)
    began = bench.clock.now
    with pytest.raises(IssuanceUnfinished, match=ORDER):
        bench.drive(deadline_seconds=300)
    assert bench.clock.now - began <= 300
    assert bench.ca.calls.count("finalize") == 1
    assert bench.ca.calls.count("fetch_order") < 60


def test_the_next_run_sends_the_csr_again(bench: Bench) -> None:
    bench.ca.while_issuing = cycle(["ready"])
    bench.ca.polls_to_issue = 10_000
    with pytest.raises(IssuanceUnfinished, match=f"accepted the CSR.*{ORDER} as ready"):
        bench.drive()
    bench.ca.polls_to_issue = 0
    bench.ca.finalized = False  # it has lost the first one
    assert bench.drive(ORDER).chain_pem
    assert bench.ca.calls.count("finalize") == 2


def test_an_order_that_is_never_ready_to_finalize_ends_at_the_deadline(bench: Bench) -> None:
    problem: dict[str, object] = {"type": "urn:ietf:params:acme:error:orderNotReady"}
    bench.ca.errors = {
        "finalize": [IssuanceRejected("not ready", problem=problem) for _ in range(1000)]
    }
    with pytest.raises(IssuanceUnfinished, match="is not ready"):
        bench.drive(deadline_seconds=300)
    assert bench.ca.calls.count("finalize") < 60


def test_failures_between_other_steps_do_not_outlive_the_deadline(bench: Bench) -> None:
    """Never many in a row, and each with a pause that is none."""
    bench.ca.while_issuing = cycle(["processing", "ready"])
    bench.ca.polls_to_issue = 10_000
    began, fetch, turn = bench.clock.now, bench.ca.fetch_order, cycle([False, False, True])

    def fetch_order(url: str) -> OrderState:
        if next(turn):
            bench.ca.errors = {"fetch_order": [IssuanceUnavailable("down", retry_after=0.0)]}
        return fetch(url)

    bench.ca.fetch_order = fetch_order  # type: ignore[method-assign]
    with pytest.raises((IssuanceUnfinished, IssuanceUnavailable)):
        bench.drive(deadline_seconds=300)
    assert bench.clock.now - began <= 300
    assert bench.ca.calls.count("fetch_order") < 60


def test_short_failures_are_waited_out(bench: Bench) -> None:
    bench.ca.errors = {
        "fetch_order": [IssuanceUnavailable("down", retry_after=3.0)],
        "fetch_authorization": [IssuanceRateLimited("busy", retry_after=5.0)],
        "finalize": [IssuanceUnavailable("down")],
        "download_chain": [],
    }
    assert bench.drive().chain_pem
    assert {3.0, 5.0} <= set(bench.clock.slept)


def test_a_rate_limit_without_an_end_is_handed_on(bench: Bench) -> None:
    bench.ca.errors = {"finalize": [IssuanceRateLimited("busy")]}
    with pytest.raises(IssuanceRateLimited):
        bench.drive()
    assert bench.drive(ORDER).chain_pem


def test_a_failed_download_is_tried_again(bench: Bench) -> None:
    bench.ca.errors = {"download_chain": [IssuanceUnavailable("cut")]}
    assert bench.drive().chain_pem
    assert bench.ca.calls.count("finalize") == 1


def test_failures_without_end_end(bench: Bench) -> None:
    bench.ca.errors = {"fetch_order": [IssuanceUnavailable("down") for _ in range(50)]}
    with pytest.raises(IssuanceUnavailable, match="down"):
        bench.drive(deadline_seconds=10_000)
    assert bench.ca.calls.count("fetch_order") == MOST_FAILURES_IN_A_ROW + 1


def test_an_unavailable_new_order_is_left_to_the_owner(bench: Bench) -> None:
    bench.ca.errors = {"new_order": [IssuanceUnavailable("down")]}
    with pytest.raises(IssuanceUnavailable):
        bench.drive()
    assert bench.journal.lines == []


def test_a_refused_replaces_is_dropped(bench: Bench) -> None:
    bench.ca.errors = {"new_order replaces": [IssuanceRejected("already replaced")]}
    bench.drive(replaces="a.b")
    assert bench.ca.calls.count("new_order") == 1


def test_an_order_not_yet_ready_is_asked_again(bench: Bench) -> None:
    problem: dict[str, object] = {"type": "urn:ietf:params:acme:error:orderNotReady"}
    bench.ca.errors = {"finalize": [IssuanceRejected("not ready", problem=problem)]}
    assert bench.drive().chain_pem
    assert bench.ca.calls.count("finalize") == 2


def test_a_refused_csr_is_final(bench: Bench) -> None:
    bench.ca.errors = {"finalize": [IssuanceRejected("bad csr")]}
    with pytest.raises(IssuanceRejected, match="bad csr"):
        bench.drive()


@pytest.mark.parametrize("status", ["invalid", "deactivated", "expired", "revoked"])
def test_an_authorization_that_ended_is_seen_without_the_orders_help(
    bench: Bench, status: str
) -> None:
    """One CA leaves the order pending and puts no error anywhere."""
    bench.ca.put(replace(authorization(NAME), status=status))
    with pytest.raises(IssuanceRejected, match=f"{NAME} \\({status}\\): no reason given"):
        bench.drive()


def test_a_failed_challenge_that_stays_pending_is_a_failure(bench: Bench) -> None:
    """Another CA leaves the challenge pending, with an error."""
    bench.ca.after_answer = lambda its: replace(its, problem=dict(PROBLEM))
    with pytest.raises(IssuanceRejected, match="by http-01: dns: no such name"):
        bench.drive()
    assert not bench.solver.present_now


def test_an_old_error_does_not_stop_a_new_answer(bench: Bench) -> None:
    state = authorization(NAME)
    old = replace(state.challenges[0], problem=dict(PROBLEM))
    bench.ca.put(replace(state, challenges=(old,)))
    bench.ca.after_answer = lambda its: replace(its, status="processing", problem=None)
    assert bench.drive().chain_pem


def test_a_ca_that_retries_by_itself_is_given_time(bench: Bench) -> None:
    bench.ca.after_answer = lambda its: replace(its, status="processing", problem=dict(PROBLEM))
    bench.ca.polls_to_validate = 3
    assert bench.drive().chain_pem


def test_a_ca_that_retries_for_ever_is_told_in_its_words(bench: Bench) -> None:
    bench.ca.after_answer = lambda its: replace(its, status="processing", problem=dict(PROBLEM))
    bench.ca.polls_to_validate = 10_000
    with pytest.raises(IssuanceUnfinished, match=r"validating .*no such name"):
        bench.drive()


def test_an_invalid_order_tells_every_reason(bench: Bench) -> None:
    challenge = replace(authorization(NAME).challenges[0], status="invalid", problem=dict(PROBLEM))
    bench.ca.put(replace(authorization(NAME), status="invalid", challenges=(challenge,)))
    bench.ca.order = replace(
        bench.ca.order, status="invalid", problem={"detail": "gave up", "status": 403}
    )
    with pytest.raises(IssuanceRejected) as raised:
        bench.drive(ORDER)
    assert "gave up" in raised.value.what
    assert "http-01: dns: no such name" in raised.value.what


def test_an_order_for_other_names_is_refused(bench: Bench) -> None:
    bench.ca.order = replace(bench.ca.order, names=frozenset(("app.example.org",)))
    with pytest.raises(IssuanceRejected, match="other names"):
        bench.drive(ORDER)
    assert not bench.solver.ever


def test_an_authorization_for_another_name_is_refused(bench: Bench) -> None:
    stranger = replace(authorization("app.example.org"), url=bench.ca.order.authorizations[0])
    bench.ca.put(stranger)
    with pytest.raises(IssuanceRejected, match="was not ordered"):
        bench.drive()
    assert not bench.solver.ever


def test_a_wildcard_is_not_the_name_itself(bench: Bench) -> None:
    bench.ca.put(replace(authorization(f"*.{NAME}"), url=bench.ca.order.authorizations[0]))
    with pytest.raises(IssuanceRejected, match="was not ordered"):
        bench.drive()


def test_too_many_authorizations_are_refused(bench: Bench) -> None:
    bench.ca.order = replace(bench.ca.order, authorizations=bench.ca.order.authorizations * 3)
    with pytest.raises(IssuanceRejected, match="3 authorizations for 1 names"):
        bench.drive()


@pytest.mark.parametrize(
    "token",
    ["", "a" * 21, "a" * 129, "../" + "a" * 22, "a" * 22 + "\n", "a" * 22 + "=", "é" * 22, "$(x)"],
)
def test_a_token_outside_the_grammar_is_refused(bench: Bench, token: str) -> None:
    bench.ca.put(authorization(NAME, token=token))
    with pytest.raises(IssuanceRejected, match="token"):
        bench.drive()
    assert not bench.solver.ever


def test_a_challenge_without_a_token_is_presented_without_one(bench: Bench) -> None:
    bench.ca.put(authorization(NAME, "dns-persist-01", token="../../x"))
    solver = RecordedSolver("dns-persist-01")
    bench.drive(solvers={"dns-persist-01": solver})
    assert (solver.ever[0].token, solver.ever[0].key_authorization) == ("", "")


def test_solvers_are_tried_in_order_of_preference(bench: Bench) -> None:
    bench.ca.put(authorization(NAME, "http-01", "dns-01"))
    dns = RecordedSolver("dns-01")
    bench.drive(solvers={"tls-alpn-01": RecordedSolver(), "dns-01": dns, "http-01": bench.solver})
    assert dns.ever
    assert not bench.solver.ever


def test_no_common_challenge_is_said(bench: Bench) -> None:
    with pytest.raises(IssuanceRejected, match=r"offers http-01 for .* can answer dns-01"):
        bench.drive(solvers={"dns-01": RecordedSolver("dns-01")})


def test_all_names_are_presented_before_the_first_is_answered(bench: Bench) -> None:
    bench.ca = FakeCa([f"host-{number}.example.org" for number in range(3)])
    with pytest.raises(IssuanceRejected):
        bench.drive()
    assert len(bench.solver.ever) == 3
    first = bench.ca.calls.index("answer_challenge")
    assert bench.ca.calls[first : first + 3] == ["answer_challenge"] * 3


@dataclass
class SlowlySeenSolver(RecordedSolver):
    """Notes how many were presented each time it is asked to wait."""

    waits: list[int] = field(default_factory=list)

    def wait_until_visible(self) -> None:
        self.waits.append(len(self.present_now))


def test_many_answers_are_waited_for_once(bench: Bench) -> None:
    bench.ca = FakeCa([NAME, f"app.{NAME}"], chain=bench.ca.chain)
    solver = SlowlySeenSolver()
    with pytest.raises(IssuanceRejected):  # the chain is for one name
        bench.drive(solvers={"http-01": solver})
    assert solver.waits == [2]


def test_what_was_not_presented_in_whole_is_presented_again(bench: Bench) -> None:
    @dataclass
    class LateSolver(RecordedSolver):
        def present(self, challenge: PendingChallenge) -> None:
            super().present(challenge)
            if len(self.ever) == 1:
                raise IssuanceUnavailable("No resolver answers.")

    solver = LateSolver()
    assert bench.drive(solvers={"http-01": solver}).chain_pem
    assert len(solver.ever) == 2
    assert not solver.present_now


def test_what_a_solver_raises_passes_after_cleaning_up(bench: Bench) -> None:
    class Refusing(RecordedSolver):
        def present(self, challenge: PendingChallenge) -> None:
            super().present(challenge)
            raise PolicyError("not this one")

    solver = Refusing()
    with pytest.raises(PolicyError):
        bench.drive(solvers={"http-01": solver})
    assert not solver.present_now


def test_a_failed_clean_up_is_only_logged(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    class Stuck(RecordedSolver):
        def clean_up(self, challenge: PendingChallenge) -> None:
            raise StoreUnavailable("locked")

    with caplog.at_level(logging.WARNING):
        assert bench.drive(solvers={"http-01": Stuck()}).chain_pem
    assert "locked" in caplog.text


def test_nothing_is_called_after_a_journal_that_fails(bench: Bench) -> None:
    class Full(RecordedJournal):
        def finalizing(self) -> None:
            raise StoreUnavailable("disk full")

    bench.journal = Full()
    with pytest.raises(StoreUnavailable):
        bench.drive()
    assert "finalize" not in bench.ca.calls


def test_another_key_is_refused(bench: Bench) -> None:
    bench.csr_pem = csr_for([NAME])
    with pytest.raises(IssuanceRejected, match="another key"):
        bench.drive()


def test_a_chain_that_does_not_link_is_refused(bench: Bench) -> None:
    leaf_only = bench.ca.chain.split(b"-----END CERTIFICATE-----\n")[0]
    bench.ca.chain = leaf_only + b"-----END CERTIFICATE-----\n" + trustme.CA().cert_pem.bytes()
    with pytest.raises(IssuanceRejected, match="not signed by any other"):
        bench.drive()


def test_an_order_of_its_own_and_surplus_are_put_right() -> None:
    """FIELD of CAs: intermediates anyhow, one of somebody else, the root, text, long lines."""
    root = trustme.CA()
    middle = root.create_child_ca()
    leaf = middle.create_child_ca().issue_cert(NAME)
    csr = csr_for([NAME], load_pem_private_key(leaf.private_key_pem.bytes(), None))  # type: ignore[arg-type]
    first, second, third = (one.bytes() for one in leaf.cert_chain_pems)
    right, stranger = first + second + third, trustme.CA().cert_pem.bytes()
    long_lines = b"\r\n".join(
        [third.splitlines()[0], b"".join(third.splitlines()[1:-1]), third.splitlines()[-1]]
    )
    for sent in (
        right,
        first + third + second,
        third + second + first,
        right + root.cert_pem.bytes(),
        root.cert_pem.bytes() + right,
        first + stranger + second + third,
        right + right,
        b"subject=CN=x\n" + first + b"\nissuer=\n\n" + second + third,
        first + second + long_lines,
        right.replace(b"\n", b"\r\n"),
    ):
        assert check_issued_chain(sent, csr, [NAME]) == right
        if sent.startswith((first, b"subject")):  # an alternative is looked at by its first
            assert has_issuer(sent, _root_name(root))


def _root_name(root: trustme.CA) -> str:
    return common_name(load_roots(root.cert_pem.bytes())[0].subject)


def test_a_leaf_that_the_root_signed_needs_nothing_above_it() -> None:
    root = trustme.CA()
    leaf = root.issue_cert(NAME)
    csr = csr_for([NAME], load_pem_private_key(leaf.private_key_pem.bytes(), None))  # type: ignore[arg-type]
    alone = leaf.cert_chain_pems[0].bytes()
    assert check_issued_chain(alone, csr, [NAME]) == alone
    assert check_issued_chain(alone + root.cert_pem.bytes(), csr, [NAME]) == alone


def test_an_issuer_that_had_expired_is_left_out() -> None:
    """A cross-signed root whose older root is gone: what is below it leads to the younger one."""
    below, middle, upper = (
        leaf(),
        INTERMEDIATE,
        certificate("Vector Root", "Older Root", ca=True, begin=NOW - YEAR, end=NOW - 2 * DAY),
    )
    csr = make_csr(ec_key("Vector Leaf"), [DnsName.parse(VECTOR_NAME)]).public_bytes(Encoding.PEM)
    sent = chain_to_pem((below, middle, upper)).encode()
    assert check_issued_chain(sent, csr, [VECTOR_NAME]) == chain_to_pem((below, middle)).encode()


def test_what_a_ca_sends_is_bounded() -> None:
    csr = make_csr(ec_key("Vector Leaf"), [DnsName.parse(VECTOR_NAME)]).public_bytes(Encoding.PEM)
    for chain, words in ((through(10), "11 certificates"), (through(1) * 11, "22 certificates")):
        with pytest.raises(IssuanceRejected, match=words):
            check_issued_chain(chain_to_pem(chain).encode(), csr, [VECTOR_NAME])


def test_a_key_that_no_certificate_may_have_is_refused() -> None:
    weak = rsa.generate_private_key(65537, 1024)
    authority = common_authority()
    chain = chain_to_pem([authority.leaf([NAME], weak, not_before=1_790_000_000)]).encode()  # type: ignore[arg-type]
    with pytest.raises(IssuanceRejected, match="RSA of 1024 bits"):
        check_issued_chain(chain, csr_for([NAME], weak), [NAME])


@pytest.mark.parametrize("chain", [b"", b"<html>", b"\xff" * 100])
def test_what_is_no_chain_is_refused(bench: Bench, chain: bytes) -> None:
    bench.ca.chain = chain
    with pytest.raises(IssuanceRejected, match="refused"):
        bench.drive()


def test_a_refused_download_is_tried_again_on_the_same_order(bench: Bench) -> None:
    refused = IssuanceRejected("not yet", problem={"status": 404}, retry_after=3.0)
    down = IssuanceUnavailable("down", problem={"status": 503})
    bench.ca.errors["download_chain"] = [refused, down, refused]
    assert bench.drive().chain_pem == bench.ca.chain
    assert bench.ca.calls.count("new_order") == 1
    assert 3.0 in bench.clock.slept


def test_a_download_refused_again_and_again_leaves_the_order_to_be_resumed(bench: Bench) -> None:
    problem: dict[str, object] = {"status": 403}
    bench.ca.errors["download_chain"] = [IssuanceRejected("no", problem=problem)] * 99
    with pytest.raises(IssuanceUnavailable, match="issued, but not handed out") as ended:
        bench.drive()
    assert ended.value.problem == problem
    assert bench.ca.calls.count("download_chain") == MOST_FAILURES_IN_A_ROW + 1
    assert bench.ca.calls.count("new_order") == 1


def test_a_certificate_at_another_place_is_no_refusal_by_the_ca(bench: Bench) -> None:
    bench.ca.errors["download_chain"] = [IssuanceRejected("not at this CA")]
    with pytest.raises(IssuanceRejected, match="not at this CA"):
        bench.drive()
