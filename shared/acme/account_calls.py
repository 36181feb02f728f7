"""Accounts at one CA (RFC 8555 section 7.3): open, confirm, update, roll over, deactivate."""

from __future__ import annotations

import json
from collections.abc import Sequence

from acme.jws import JWS

from shared.acme.connection import AcmeConnection
from shared.acme.jwk import signature_algorithm, to_jwk
from shared.acme.keys import AccountKey
from shared.acme.ports import ExternalAccountBinding
from shared.acme.problems import plain_text, problem_code
from shared.acme.registration import explain_refused_binding, new_account
from shared.contract.errors import ConfigurationError, IssuanceRejected


class AccountCalls(AcmeConnection):
    """What an account holder may do with the account itself."""

    def ensure_account(
        self,
        contact: Sequence[str] = (),
        *,
        terms_agreed: bool,
        eab: ExternalAccountBinding | None = None,
    ) -> str:
        """Register the key, or find its account again; return the account URL.

        With a known account URL nothing is created: the CA is only asked whether it stands
        (`onlyReturnExisting`, RFC 8555 section 7.3.1).

        Args:
            contact: URLs such as ``mailto:ops@example.com``.

        Raises:
            ConfigurationError: terms not agreed to, or an external account binding is missing.
            IssuanceRejected: the account is unknown or deactivated, or the CA refuses.
        """
        directory = self.directory()
        if self.account_url is None:
            payload = new_account(directory, self._jwk, contact, terms_agreed, eab)
        else:
            payload = {"onlyReturnExisting": True}
        self._network.use_account(None)
        try:
            with self._call("new_account"):
                answer = self._post(directory.new_account, payload)
        except IssuanceRejected as error:
            raise explain_refused_binding(error, directory.url, eab) from error
        finally:
            self._network.use_account(self.account_url)
        location = self._origin.check(answer.headers.get("Location"), "account")
        status = plain_text(answer.document().get("status", "valid"))
        if status != "valid":
            raise IssuanceRejected(
                f"The ACME account {location} is {status:.40} at the CA.",
                do="Use another account key; a deactivated account cannot be opened again.",
            )
        self.account_url = location
        self._network.use_account(location)
        return location

    def confirm_account(self) -> str:
        """Ask the CA whether the account stands, by an empty POST-as-GET; return its URL.

        Raises:
            ConfigurationError: no account is known yet.
            IssuanceRejected: the CA does not know it, or it was deactivated.
        """
        url = self.account_url
        if url is None:
            raise ConfigurationError(f"There is no account at {self._origin.host} yet.")
        with self._call("fetch_account"):
            status = plain_text(self._post(url, None).document().get("status", "valid"))
        if status != "valid":
            raise IssuanceRejected(f"The ACME account {url} is {status:.40} at the CA.")
        return url

    def knows_key(self) -> bool:
        """Ask the CA whether our key is that of an account; nothing is created (section 7.3.1).

        Where it is, :attr:`account_url` is set.
        """
        self._network.use_account(None)
        try:
            with self._call("new_account"):
                answer = self._post(self.directory().new_account, {"onlyReturnExisting": True})
        except IssuanceRejected as error:
            if problem_code(error.problem) == "accountDoesNotExist":
                return False
            raise
        finally:
            self._network.use_account(self.account_url)
        self.account_url = self._origin.check(answer.headers.get("Location"), "account")
        self._network.use_account(self.account_url)
        return True

    def update_contact(self, contact: Sequence[str]) -> None:
        """Tell the CA whom to write to (section 7.3.2)."""
        with self._call("update_account"):
            self._post(self._own_url(), {"contact": list(contact)})

    def deactivate(self) -> None:
        """Close the account for good; its authorizations end with it (section 7.3.6)."""
        with self._call("deactivate_account"):
            self._post(self._own_url(), {"status": "deactivated"})

    def roll_over(self, new_key: AccountKey) -> None:
        """Replace the account's key (section 7.3.5); this client signs with the new one then.

        Raises:
            IssuanceRejected: the CA offers no roll-over, or another account has the new key.
        """
        url = self.directory().key_change
        if url is None:
            raise IssuanceRejected(f"The CA {self._origin.host} offers no change of account keys.")
        jwk = to_jwk(new_key)
        claim = {"account": self._own_url(), "oldKey": self._jwk.public_key().to_json()}
        inner = JWS.sign(
            json.dumps(claim).encode(),
            key=jwk,
            alg=signature_algorithm(new_key),
            nonce=None,
            url=url,
        )
        with self._call("key_change"):
            self._post(url, inner.to_json())
        self._use_key(new_key)

    def _own_url(self) -> str:
        if self.account_url is None:
            raise ConfigurationError(f"There is no account at {self._origin.host} yet.")
        return self.account_url
