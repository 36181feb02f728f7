"""Accounts and revocation from the command line, against the lab CA; killed where it hurts."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from external_agent.orders import accounts
from external_agent.orders.certificate_authority import CaSettings, CertificateAuthorities
from external_agent.settings import keys
from external_agent.store.open import open_store
from shared.contract.errors import RelayError
from tests.e2e.test_whole_line import APP, WWW, Line, issued, line, place, pull_until
from tests.lab import LabCa
from tests.line import wait_until

__all__ = ["line"]
pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]


def kinds(line: Line) -> list[str]:
    return [event["kind"] for event in json.loads(line.agent.call("events", "--json").out)]


def thumbprints(line: Line) -> list[str]:
    return [account.thumbprint for account in line.ca.accounts]


def test_a_running_agent_goes_on_with_another_key(line: Line) -> None:
    assert "no account yet" in line.agent.call("account", "show").err
    token = line.agent.add(WWW)
    with line.agent.serving():
        puller = line.puller("puller", token, WWW)
        issued(line, 1)
        pull_until(puller, line.newest())
        (before,) = thumbprints(line)
        line.agent.call("account", "roll-over")
        (after,) = thumbprints(line)
        assert after != before
        assert not (line.agent.state / keys.NEXT_ACCOUNT_KEY_FILE).exists()
        line.agent.call("renew", WWW)
        issued(line, 2)
        pull_until(puller, line.newest())
    (shown,) = json.loads(line.agent.call("account", "show", "--json").out)
    assert (shown["thumbprint"], shown["status"]) == (after, "valid")
    assert len(line.ca.accounts) == 1
    assert "account-key-changed" in kinds(line)


def test_a_ca_that_is_away_keeps_both_keys_until_it_is_back(line: Line) -> None:
    token = line.agent.add(WWW)
    with line.agent.serving():
        line.puller("puller", token, WWW)
        issued(line, 1)
        line.ca.faults.refuse("keyChange", 503, times=None)
        said = line.agent.call("account", "roll-over", expect=6)
        assert "still have the old key" in said.err
        assert (line.agent.state / keys.NEXT_ACCOUNT_KEY_FILE).exists()
        line.agent.call("renew", WWW)  # orders go on with the old one
        issued(line, 2)
        line.ca.faults.clear()
        line.agent.call("account", "roll-over")
        line.agent.call("renew", WWW)
        issued(line, 3)
    assert len(line.ca.accounts) == 1


def test_the_answer_to_a_key_change_is_lost(line: Line) -> None:
    """As if killed between the CA's acceptance and our record of it."""
    token = line.agent.add(WWW)
    with line.agent.serving():
        line.puller("puller", token, WWW)
        issued(line, 1)
        (before,) = thumbprints(line)
        line.ca.faults.lose_answer("keyChange", times=1)
        line.agent.call("account", "roll-over", expect=6)
        (after,) = thumbprints(line)
        assert after != before  # the CA has taken it
        line.agent.call("renew", WWW)  # the running agent finds out which key the CA knows
        issued(line, 2)
        line.agent.call("account", "roll-over")
        assert thumbprints(line) == [after]
        assert not (line.agent.state / keys.NEXT_ACCOUNT_KEY_FILE).exists()
        line.agent.call("renew", WWW)
        issued(line, 3)
    assert len(line.ca.accounts) == 1


POINTS = (
    "acme.key_change.before",
    "acme.key_change.after",
    "store.note_account_key.before",
    "store.note_account_key.after",
)


@pytest.mark.parametrize("point", POINTS)
def test_killed_in_a_roll_over(tmp_path: Path, point: str) -> None:
    """A child dies at one point; the next run finishes, with one account and one key."""
    state = tmp_path / "state"
    keys.make_directory(state)
    keys.make_keys(state, "relay.example.com", 1_700_000_000.0)
    with LabCa() as ca:
        roots = tmp_path / "roots.pem"
        roots.write_text(ca.tls_root_pem)

        def run(kill_at: str) -> None:
            def failpoint(name: str) -> None:
                if name == kill_at:
                    os._exit(9)

            store = open_store(f"sqlite:///{state / 'relay.db'}")
            note = store.note_account_key

            def noted(*arguments: str, **named: int) -> None:
                failpoint("store.note_account_key.before")
                note(*arguments, **named)  # type: ignore[arg-type]
                failpoint("store.note_account_key.after")

            store.note_account_key = noted  # type: ignore[method-assign]

            def settings(_: str) -> CaSettings:
                found = keys.load_account_keys(state)
                return CaSettings(
                    found.current, found.following, terms_agreed=True, trusted_roots=roots
                )

            authorities = CertificateAuthorities(store, settings, failpoint=failpoint)
            authorities.connect(ca.directory_url).close()
            for _, error in accounts.roll_over(store, authorities, state, now=1_800_000_000):
                assert error is None or isinstance(error, RelayError)
            store.close()

        child = os.fork()
        if not child:
            try:
                run(point)
            finally:
                os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
        assert (state / keys.NEXT_ACCOUNT_KEY_FILE).exists()
        run("")
        assert not (state / keys.NEXT_ACCOUNT_KEY_FILE).exists()
        (account,) = ca.accounts
        from shared.acme.jwk import thumbprint, to_jwk

        assert account.thumbprint == thumbprint(to_jwk(keys.load_account_keys(state).current))


def test_an_account_that_was_closed(line: Line) -> None:
    token = line.agent.add(WWW)
    with line.agent.serving():
        line.puller("puller", token, WWW)
        issued(line, 1)
        asked = line.agent.call("account", "deactivate", "--ca", line.ca.directory_url, expect=3)
        assert "--yes" in asked.err
        line.agent.call("account", "deactivate", "--ca", line.ca.directory_url, "--yes")
        assert [account.status for account in line.ca.accounts] == ["deactivated"]
        line.agent.call("renew", WWW)
        wait_until(
            lambda: "deactivated" in str(line.agent.certificate(WWW)["last_error"]),
            what="status says so",
        )
        assert len(line.ca.issued) == 1
        line.agent.call("account", "roll-over")  # another key opens another account
        line.agent.call("renew", WWW)
        issued(line, 2)
    assert [account.status for account in line.ca.accounts] == ["deactivated", "valid"]
    line.agent.call("account", "deactivate", "--ca", "letsencrypt", "--yes", expect=3)


def test_the_contact_is_told_anew(line: Line) -> None:
    token = line.agent.add(WWW)
    with line.agent.serving():
        line.puller("puller", token, WWW)
        issued(line, 1)
    text = line.agent.config.read_text()
    line.agent.config.write_text(text.replace("mailto:ops@example.com", "mailto:new@example.com"))
    line.agent.call("account", "update")
    assert [account.contact for account in line.ca.accounts] == [["mailto:new@example.com"]]


def test_revoked_by_account_and_issued_anew(line: Line) -> None:
    token = line.agent.add(WWW)
    assert "nothing to revoke" in line.agent.call("revoke", WWW, expect=4).err
    with line.agent.serving():
        puller = line.puller("puller", token, WWW)
        issued(line, 1)
        pull_until(puller, line.newest())
        assert (
            "no reason"
            in line.agent.call("revoke", WWW, "--reason", "privilegeWithdrawn", expect=3).err
        )
        line.agent.call("revoke", WWW, "--reason", "keyCompromise")
        assert list(line.ca.revoked.values()) == [1]
        issued(line, 2)
        pull_until(puller, line.newest())
        first = sorted(line.agent.certificate(WWW)["issued"])  # the newest is not revoked
        assert "revoked_at" in first
        assert line.agent.certificate(WWW)["issued"]["revoked_at"] is None
        line.agent.call("revoke", WWW, "--reason", "superseded")
        assert line.agent.certificate(WWW)["state"] == "revoked"
        assert "REVOKED" in line.agent.call("status", WWW).out
        assert "was revoked already" in line.agent.call("revoke", WWW, "--reason", "4").err
    assert len(line.ca.issued) == 2  # superseded wants no other one
    assert kinds(line).count("revoked") == 3


def test_revoked_by_its_file_and_issued_anew(line: Line) -> None:
    """As by its name: the running agent orders another, and an older one is noted only."""
    token = line.agent.add(WWW)
    with line.agent.serving():
        puller = line.puller("puller", token, WWW)
        issued(line, 1)
        pull_until(puller, line.newest())
        old = line.agent.base / "old.pem"
        old.write_bytes((place(puller) / "current" / "fullchain.pem").read_bytes())
        done = line.agent.call("revoke", "--certificate", str(old), "--reason", "keyCompromise")
        assert f"{WWW}: generation" in done.err and "A new generation is wanted" in done.err
        issued(line, 2)
        pull_until(puller, line.newest())
        done = line.agent.call("revoke", "--certificate", str(old), "--reason", "keyCompromise")
        assert "was revoked already" in done.err and "is wanted" not in done.err
        assert line.agent.certificate(WWW)["issued"]["revoked_at"] is None
    assert kinds(line).count("renewal-requested") == 1


def test_revoked_by_the_certificates_own_key(line: Line, tmp_path: Path) -> None:
    token = line.agent.add(WWW)
    with line.agent.serving():
        puller = line.puller("puller", token, WWW)
        issued(line, 1)
        pull_until(puller, line.newest())
    current = place(puller) / "current"
    chain, key = str(current / "fullchain.pem"), str(current / "privkey.pem")
    wrong = tmp_path / "other.key"
    keys.write_secret(wrong, keys.generate_account_key())
    said = line.agent.call("revoke", "--certificate", chain, "--key", str(wrong), expect=3)
    assert "not the one of that certificate" in said.err
    line.agent.call("account", "deactivate", "--ca", line.ca.directory_url, "--yes")
    line.agent.call("revoke", "--certificate", chain, "--key", key, "--reason", "1")
    assert list(line.ca.revoked.values()) == [1]
    assert line.agent.certificate(WWW)["state"] == "revoked"
    assert line.agent.call("revoke", APP, "--certificate", chain, expect=3).err
