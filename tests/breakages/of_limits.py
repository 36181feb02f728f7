"""Promises about what strangers, pullers and agents may use up (27, 28, 29)."""

from __future__ import annotations

from typing import Final

from tests.breakages.model import Breakage

BREAKAGES: Final = (
    Breakage(
        27,
        "strangers of one address may take all connections",
        "external_agent/relay/acceptor.py",
        "            if network is not None and len(neighbours) >= self._most_strangers:\n",
        "            if network is not None and len(neighbours) >= self._most:\n",
        "test_strangers_count_against_their_address",
    ),
    Breakage(
        27,
        "strangers do not go first",
        "external_agent/relay/acceptor.py",
        "        if self._strangers:\n",
        "        if not self._peers:\n",
        "test_strangers_go_first_then_the_idle_and_never_who_is_at_work",
    ),
    Breakage(
        27,
        "who is at work has to give way",
        "external_agent/relay/acceptor.py",
        "next((peer for peer in peers if not peer.is_at_work()), None)",
        "next(iter(peers), None)",
        "test_strangers_go_first_then_the_idle_and_never_who_is_at_work",
    ),
    Breakage(
        27,
        "who has shown a signature stays a stranger",
        "external_agent/relay/servers.py",
        "        self._acceptor.know(self, holder)\n",
        "",
        "test_half_a_request_is_no_work_also_of_one_who_is_known",
    ),
    Breakage(
        27,
        "a signature that was not verified yet counts",
        "external_agent/relay/signed_messages.py",
        "        claim = await self._authenticator.identify(head)\n",
        "        claim = await self._authenticator.identify(head)\n"
        "        vouch(scope, claim.key.id)\n",
        "test_half_sent_requests_are_nobody_s_business",
    ),
    Breakage(
        27,
        "an answered request counts as work until the next",
        "external_agent/relay/servers.py",
        "        self._verified = False  # the next request shows credentials of its own\n",
        "",
        "test_half_a_request_is_no_work_also_of_one_who_is_known",
    ),
    Breakage(
        27,
        "one puller may keep all connections",
        "external_agent/relay/acceptor.py",
        "            if len(self._known[holder]) > MOST_KNOWN:\n",
        "            if len(self._known[holder]) > self._most:\n",
        "test_one_holder_of_credentials_has_not_all_connections",
    ),
    Breakage(
        27,
        "a stranger's body is waited for",
        "external_agent/relay/signed_messages.py",
        "        claim = await self._authenticator.identify(head)\n"
        "        body = await _read_body("
        'scope["headers"], receive, allowed=head.target.has_body)\n',
        '        body = await _read_body(scope["headers"], receive, allowed=head.target.has_body)\n'
        "        claim = await self._authenticator.identify(head)\n",
        "test_a_stranger_is_refused_before_a_body_is_read",
    ),
    Breakage(
        27,
        "each refused stranger is a line in the log",
        "external_agent/relay/signed_messages.py",
        'self._strangers.note(_log.info, "request refused",',
        '_log.info("request refused",',
        "test_refusals_go_through_it",
    ),
    Breakage(
        28,
        "the nonce of a request is not kept",
        "external_agent/store/admission.py",
        "    connection.execute(\n        insert(nonces)",
        "    str(\n        insert(nonces)",
        "test_a_nonce_is_kept_as_long_as_its_request_could_come_again",
    ),
    Breakage(
        28,
        "a nonce is forgotten while its request still passes",
        "external_agent/store/admission.py",
        "NONCE_SECONDS = 2 * CLOCK_TOLERANCE\n",
        "NONCE_SECONDS = CLOCK_TOLERANCE\n",
        "test_a_nonce_is_kept_as_long_as_its_request_could_come_again",
    ),
    Breakage(
        28,
        "only enrolments keep their nonce",
        "external_agent/relay/admission.py",
        '        nonce = None if scope["method"] == "GET" else caller.nonce\n',
        "        nonce = None\n",
        "test_a_nonce_is_used_once_whatever_is_called",
    ),
    Breakage(
        28,
        "the time of a request is not judged",
        "external_agent/relay/authentication.py",
        "        return difference if abs(difference) > CLOCK_TOLERANCE else None\n",
        "        return None\n",
        "test_a_clock_beyond_300_s_is_refused_signed",
    ),
    Breakage(
        28,
        "calls are not counted",
        "external_agent/store/admission.py",
        "    if count >= most:\n",
        "    if count < 0:\n",
        "test_requests_that_are_dated_back_are_accepted_no_more_often",
    ),
    Breakage(
        28,
        "calls are counted by the time that the puller states",
        "external_agent/relay/admission.py",
        "        now = int(self._clock())\n",
        "        now = caller.created\n",
        "test_no_time_that_a_puller_states_makes_room_for_more_calls",
    ),
    Breakage(
        28,
        "a puller fills the trail",
        "external_agent/store/queries.py",
        "    most = quotas.event_bytes(grants_held(connection, puller))\n",
        "    most = 10**12\n",
        "test_what_a_puller_says_fills_a_part_of_the_trail",
    ),
    Breakage(
        29,
        "installations are not counted",
        "internal_puller/pull/pauses.py",
        "            self._pace.note(certificate)\n",
        "            pass\n",
        "test_an_agent_with_something_new_at_every_poll",
    ),
    Breakage(
        29,
        "what failed does not count",
        "internal_puller/pull/pauses.py",
        "        self._failed[certificate, generation] = (pause, self._monotonic() + pause)\n",
        "        self._failed[certificate, generation] = (pause, self._monotonic() + pause)\n"
        "        if self._pace is not None:\n"
        "            self._pace._attempts.clear()\n",
        "test_what_fails_each_time_counts_too",
    ),
    Breakage(
        29,
        "a certificate that ends soon is installed at once",
        "internal_puller/pull/pace.py",
        "max(SHORTEST, min(LONGEST, left * SHARE))",
        "min(LONGEST, left * SHARE)",
        "test_what_expires_soon_waits_a_minute_at_most_and_still_not_without_end",
    ),
    Breakage(
        29,
        "the puller that stays is not paced",
        "internal_puller/pull/daemon.py",
        "                    pace=self._pace,\n",
        "",
        "test_the_puller_that_stays_is_paced_also_when_it_begins_anew",
    ),
)
