"""Promises about the audit trail and the operator's listener (23, 26)."""

from __future__ import annotations

from typing import Final

from tests.breakages.model import Breakage

BREAKAGES: Final = (
    Breakage(
        23,
        "the content of an event is not hashed anew",
        "external_agent/facts/audit.py",
        '        if digest != event["hash"]:\n',
        '        if not event["hash"]:\n',
        "test_any_change_is_found",
    ),
    Breakage(
        23,
        "the link to the event before is not compared",
        "external_agent/facts/audit.py",
        '        if event["previous_hash"] != self.previous:\n',
        '        if not event["previous_hash"]:\n',
        "test_an_event_with_a_new_hash_of_its_own_is_found",
    ),
    Breakage(
        23,
        "the end of the trail is not compared",
        "external_agent/store/trail.py",
        "            if _fact(connection, EVENT_HEAD) != end:\n",
        "            if end is None:\n",
        "test_a_missing_event_is_found",
    ),
    Breakage(
        23,
        "the end that an operator kept is not compared",
        "external_agent/store/trail.py",
        "            if known not in (None, end):\n",
        "            if known is not None and known.seq > end.seq:\n",
        "test_a_trail_written_anew_misses_the_end_that_was_kept",
    ),
    Breakage(
        26,
        "calls are answered without a token",
        "external_agent/operator/gate.py",
        '        if caller is None and scope["path"] not in OPEN:\n',
        '        if not scope["path"]:\n',
        "test_every_call_with_every_role",
    ),
    Breakage(
        26,
        "every role may do everything",
        "external_agent/facts/access.py",
        "        return order.index(self) >= order.index(wanted)\n",
        "        return order.index(self) >= 0\n",
        "test_every_call_with_every_role",
    ),
    Breakage(
        26,
        "pages of another origin call the API",
        "external_agent/operator/gate.py",
        "        if origin is not None and not is_known_origin(origin, host, allowed):\n",
        '        if origin == "":\n',
        "test_host_and_origin",
    ),
    Breakage(
        26,
        "forms of another origin are taken",
        "external_agent/present/dashboard/front.py",
        "        if origin is not None and not is_known_origin(origin, host, self._allowed):\n",
        '        if origin == "":\n',
        "test_a_form_of_another_origin_changes_nothing",
    ),
    Breakage(
        26,
        "pages are served under any host name",
        "external_agent/present/dashboard/front.py",
        "        if not is_known_host(host, self._allowed):\n",
        "        if not host:\n",
        "test_pages_under_another_name_are_not_given_out",
    ),
    Breakage(
        26,
        "forms are taken without their secret",
        "external_agent/present/dashboard/sessions.py",
        "    return hmac.compare_digest(session.form_token.encode(), form_token.encode())\n",
        '    return hmac.compare_digest(b"", b"")\n',
        "test_a_form_without_its_secret_changes_nothing",
    ),
    Breakage(
        26,
        "every user of the machine may use the socket",
        "external_agent/operator/local_socket.py",
        "    if uid not in (0, os.geteuid()):\n",
        "    if uid < 0:\n",
        "test_a_stranger_is_refused",
    ),
    Breakage(
        26,
        "an access token works after its end",
        "external_agent/operator/identity.py",
        "        if not row.is_live(int(now)):\n",
        "        if not row.name:\n",
        "test_a_token_ends",
    ),
    Breakage(
        26,
        "an answer leaves after its token has ended",
        "external_agent/operator/gate.py",
        "                    await self._identity.require_live(caller)\n",
        "                    pass\n",
        "test_an_answer_that_took_its_time_does_not_leave",
    ),
    Breakage(
        26,
        "a change is kept after its token has ended",
        "external_agent/operator/gate.py",
        "            with self._acting_for(caller):\n",
        "            with nullcontext():\n",
        "test_a_change_decides_in_its_own_transaction",
    ),
)
