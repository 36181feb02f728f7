"""Promises about what is accepted, installed and warned of (6, 12, 13, 14)."""

from __future__ import annotations

from typing import Final

from tests.breakages.model import Breakage

BREAKAGES: Final = (
    Breakage(
        6,
        "an older generation is installed",
        "internal_puller/trust.py",
        "    if floor is not None and manifest.generation < floor.generation:\n",
        "    if floor is not None and not manifest.generation:\n",
        "test_older_generation_is_refused_even_signed",
    ),
    Breakage(
        6,
        "a generation of the far future is installed",
        "internal_puller/trust.py",
        "    if manifest.generation > now + MAX_AHEAD:\n",
        "    if manifest.generation > 2 * now:\n",
        "test_far_future_generation_is_refused",
    ),
    Breakage(
        6,
        "one generation may have two contents",
        "internal_puller/trust.py",
        " and digest != floor.digest:\n",
        ' and digest == "":\n',
        "test_same_generation_with_other_content_is_refused",
    ),
    Breakage(
        6,
        "what was accepted is not remembered",
        "internal_puller/sources/acceptance.py",
        "        self._state.raise_floor(manifest.certificate, accepted.floor)\n",
        "",
        "test_floor_survives_another_agent",
    ),
    Breakage(
        6,
        "what was accepted is not on the disk before it is active",
        "internal_puller/state/state.py",
        "        write_private(path, _encode_floors(floors))\n",
        "        write_private(path, _encode_floors(floors), durable=False)\n",
        "test_what_was_accepted_is_on_the_disk_before_it_is_active",
    ),
    Breakage(
        6,
        "the agent believes any generation that a puller reports",
        "external_agent/facts/generation.py",
        "    return 0 <= generation <= now + MOST_AHEAD\n",
        "    return 0 <= generation\n",
        "test_a_lie_moves_us_an_hour_at_most",
    ),
    Breakage(
        12,
        "current is taken away before it is set anew",
        "internal_puller/install/durable.py",
        "        with self._placed(name, staging) as temporary:\n"
        "            staging.make_link(temporary, destination)\n",
        "        self.remove(name)\n"
        "        self.make_link(name, destination)\n"
        "        self.sync()\n",
        "test_killed_at_every_call_of_a_renewal",
    ),
    Breakage(
        12,
        "an installation is begun without a note",
        "internal_puller/install/steps.py",
        "waits behind a socket\n        self.write()\n",
        "waits behind a socket\n",
        "test_killed_here_and_there",
    ),
    Breakage(
        12,
        "a new file is not synced",
        "internal_puller/install/durable.py",
        "                os.fchown(descriptor, ownership.uid, ownership.gid)\n"
        "            os.fsync(descriptor)\n",
        "                os.fchown(descriptor, ownership.uid, ownership.gid)\n",
        "test_everything_is_synced_before_and_after_it_is_named",
    ),
    Breakage(
        12,
        "files are written into what is in place",
        "internal_puller/install/generations.py",
        "            name = make_name(generation, parsed[1] + 1 if parsed else 0)\n"
        "            self._write(name, files, accounts)\n",
        "            name = make_name(generation, parsed[1] + 1 if parsed else 0)\n"
        "            with self._all.make_directory(name, 0o755) as directory:\n"
        "                for file_name, file in files.items():\n"
        "                    directory.write(file_name, file.content, accounts.of(file))\n",
        "test_killed_at_every_call_of_a_renewal",
    ),
    Breakage(
        12,
        "a fixed link is made only after the switch",
        "internal_puller/install/generations.py",
        "                self._fixed.lead_to(name)\n                destination",
        "                destination",
        "test_killed_at_each_call",
    ),
    Breakage(
        12,
        "what is pruned is taken apart where it is seen",
        "internal_puller/install/generations.py",
        "        self._staging.take(self._all, name, temporary)\n        self._all.sync()\n",
        "        self._staging.take(self._all, name, temporary)\n",
        "test_killed_at_each_call",
    ),
    Breakage(
        13,
        "the configuration is not tested",
        "internal_puller/install/sifting.py",
        "        if refusal:\n            moved |=",
        "        if False:\n            moved |=",
        "test_a_renewal_that_the_test_refuses_goes_back_alone",
    ),
    Breakage(
        13,
        "what is served after a reload is not judged",
        "internal_puller/install/steps.py",
        "            if any(one.verdict in BY_SERVER for one in self.members):\n"
        "                go_back(self)\n",
        "",
        "test_a_leaf_shown_with_another_key_goes_back_by_one_more_reload",
    ),
    Breakage(
        13,
        "a server that a reload ended stays dead",
        "internal_puller/install/going_back.py",
        "            servers.start(server)\n",
        "            servers.tell(server, now=now)\n",
        "test_a_server_that_a_reload_killed_is_started_with_the_old_files",
    ),
    Breakage(
        13,
        "a failed roll-back is reported like any failure",
        "internal_puller/install/judge.py",
        "    if not (lives and returned):\n        return Verdict.BACK_UNSEEN\n",
        "",
        "test_a_dead_server_that_cannot_be_started_wants_a_person_and_is_tried_again",
    ),
    Breakage(
        13,
        "a way back that did not help is kept",
        "internal_puller/install/going_back.py",
        "    judged = judge_back(one.verdict, one.before, one.looks, runs)\n",
        "    judged = Verdict.BACK_UNSEEN\n",
        "test_going_back_that_does_not_help_is_undone_without_a_reload",
    ),
    Breakage(
        14,
        "only what has expired is warned of",
        "internal_puller/facts/expiry.py",
        "        if left < share * lifetime:\n",
        "        if left < 0:\n",
        "test_little_life_left_warns",
    ),
    Breakage(
        14,
        "a warning does not change the exit code",
        "internal_puller/facts/expiry.py",
        "            report.expiring.append(target.certificate)\n",
        "",
        "test_little_life_left_warns",
    ),
    Breakage(
        14,
        "without the agent nothing is warned of",
        "internal_puller/pull/puller.py",
        "        except NO_CONTACT as error:\n            turn.refresh()\n",
        "        except NO_CONTACT as error:\n            raise\n",
        "test_little_life_left_warns",
    ),
)
