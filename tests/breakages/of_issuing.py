"""Promises about ordering, clocks, restores and a locked store (2, 19, 20, 21, 25)."""

from __future__ import annotations

from typing import Final

from tests.breakages.model import Breakage

BREAKAGES: Final = (
    Breakage(
        2,
        "an order that was not recorded is not searched for",
        "shared/acme/order.py",
        "        found = client.find_unfinished_order(names) if adopt_unfinished else None\n",
        "        found = None\n",
        "test_an_adopted_order_is_recorded_and_not_doubled",
    ),
    Breakage(
        2,
        "an order is not recorded before it is worked on",
        "shared/acme/order.py",
        "        journal.order_created(order.url, order.expires)\n",
        "",
        "test_from_nothing_to_a_chain",
    ),
    Breakage(
        2,
        "a worker that lost its lease continues the order",
        "external_agent/store/leases.py",
        "    if row is None or row.fence != claim.fence or row.removed_at is not None:\n",
        "    if row is None or row.removed_at is not None:\n",
        "test_whoever_lost_the_lease_changes_nothing",
    ),
    Breakage(
        19,
        "the key of an issued certificate is not compared",
        "shared/acme/chain.py",
        "    leaf = next((one for one in found if spki_sha256(one) == wanted), None)\n",
        "    leaf = next((one for one in found if wanted), None)\n",
        "test_another_key_is_refused",
    ),
    Breakage(
        19,
        "the names of an issued certificate are not compared",
        "shared/acme/chain.py",
        "            check_names(chain[0], names)\n",
        "",
        "test_a_certificate_for_other_names_is_refused",
    ),
    Breakage(
        19,
        "the links of an issued chain are not verified",
        "shared/acme/chain.py",
        "    if upper is None and others and len(chain) == 1:\n",
        "    if upper is None and not chain:\n",
        "test_a_chain_that_does_not_link_is_refused",
    ),
    Breakage(
        20,
        "the CA's clock is not compared with ours",
        "shared/acme/connection.py",
        "        if skew is not None and abs(skew) > MAX_CLOCK_SKEW:\n",
        "        if skew is None:\n            return\n        if abs(skew) > 1e9:\n",
        "test_with_a_wrong_clock_nothing_is_prepared_or_ordered",
    ),
    Breakage(
        20,
        "the clock is checked only when the key is made already",
        "external_agent/orders/certificate_authority.py",
        "            client.check_clock()\n            if row",
        "            if row",
        "test_with_a_wrong_clock_nothing_is_prepared_or_ordered",
    ),
    Breakage(
        20,
        "a pause from the future is waited for",
        "external_agent/store/leases.py",
        ", certificates.c.paused_at > now + CLOCK_STEP\n",
        ", certificates.c.paused_at > now + 1000 * CLOCK_STEP**2\n",
        "test_pauses_and_leases_of_a_wrong_clock_do_not_last",
    ),
    Breakage(
        21,
        "a puller that holds something newer is not noticed",
        "external_agent/store/relay.py",
        "        if after > known and not told:\n",
        "        if after > known and told:\n",
        "test_an_agent_restored_from_a_backup",
    ),
    Breakage(
        21,
        "generations begin at the clock, not above what is held",
        "external_agent/facts/generation.py",
        "    return max(now, highest_known + 1)\n",
        "    return now\n",
        "test_generations_grow",
    ),
    Breakage(
        21,
        "tokens from before the backup work after a restore",
        "external_agent/store/restored.py",
        "                .where(tokens.c.redeemed_at.is_(None), tokens.c.voided_at.is_(None))\n"
        "                .values(voided_at=now)\n",
        "                .where(tokens.c.redeemed_at.is_(None), tokens.c.voided_at.is_(None))\n"
        "                .values(voided_at=None)\n",
        "test_backup_and_restore_by_their_commands",
    ),
    Breakage(
        25,
        "a locked database is an error like any other",
        "external_agent/relay/problems.py",
        '    (StoreError, "store-unavailable"),\n',
        "",
        "test_locked_database",
    ),
    Breakage(
        25,
        "pullers get no Retry-After while the store is locked",
        "external_agent/relay/problems.py",
        '{"store-unavailable": 5, ',
        "{",
        "test_a_database_that_is_gone_gives_503_with_retry_after",
    ),
    Breakage(
        25,
        "a locked store is an error while keys are looked up",
        "external_agent/relay/signed_messages.py",
        "        except StoreError as error:\n",
        "        except ZeroDivisionError as error:\n",
        "test_a_database_that_is_gone_gives_503_with_retry_after",
    ),
)
