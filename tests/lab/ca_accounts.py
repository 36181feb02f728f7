"""Accounts: create, find, update, deactivate, roll the key, list the orders (RFC 8555 7.3)."""

from __future__ import annotations

import json
import re
from typing import Any

from .ca_jws import json_object, load_jwk, parse, thumbprint, verify, verify_hmac
from .ca_model import Account, State
from .ca_protocol import Exchange, document
from .http_server import Answer
from .problems import Problem, malformed

_MAILTO = re.compile(r"mailto:[^@\s,?]+@[^@\s,?]+\.[^@\s,?]+")


class Accounts:
    """The endpoints that deal with accounts."""

    def __init__(self, state: State) -> None:
        self._state = state

    def create(self, exchange: Exchange) -> Answer:
        """newAccount: find by key, or create (section 7.3)."""
        payload = exchange.payload()
        account = exchange.account
        if account is not None:
            if account.status != "valid":
                raise Problem("unauthorized", f"the account is {account.status}", 401)
            return self._show(account, 200, ("Location", self._state.link("location", account.url)))
        if payload.get("onlyReturnExisting"):
            raise Problem("accountDoesNotExist", "there is no account with this key")
        contact = check_contact(payload.get("contact", []))
        if self._state.options.terms_of_service and payload.get("termsOfServiceAgreed") is not True:
            raise Problem("userActionRequired", "the terms of service must be agreed to")
        assert exchange.jwk is not None
        kid = self._bound_to(payload.get("externalAccountBinding"), exchange.jwk)
        account = Account(
            url=self._state.new_url("account"),
            jwk=exchange.jwk,
            thumbprint=thumbprint(exchange.jwk),
            contact=contact,
            eab_kid=kid,
        )
        self._state.accounts[account.url] = exchange.account = account
        return self._show(account, 201, ("Location", self._state.link("location", account.url)))

    def update(self, exchange: Exchange) -> Answer:
        """The account's own URL: read, change the contact, deactivate (7.3.2, 7.3.6)."""
        account = self._own(exchange)
        if exchange.is_post_as_get:
            return self._show(account)
        payload = exchange.payload()
        if "contact" in payload:
            account.contact = check_contact(payload["contact"])
        if payload.get("status", "valid") == "deactivated":
            account.status = "deactivated"
        elif payload.get("status", "valid") != "valid":
            raise malformed("an account can only be deactivated")
        return self._show(account)

    def orders(self, exchange: Exchange) -> Answer:
        """The orders list (section 7.1.2.1), page by page."""
        account = self._own(exchange)
        urls = [order.url for order in account.orders if order.status != "invalid"]
        _, _, cursor = exchange.request.query.partition("cursor=")
        if cursor and not cursor.isdecimal():
            raise malformed("the cursor is not one of ours")
        start = int(cursor or 0)
        size = self._state.options.orders_page
        answer = document({"orders": urls[start : start + size]})
        if len(urls) > start + size:
            there = f"{account.url}/orders?cursor={start + size}"
            answer.headers.append(("Link", f'<{there}>;rel="next"'))
        return answer

    def change_key(self, exchange: Exchange) -> Answer:
        """keyChange (section 7.3.5)."""
        account = exchange.account
        assert account is not None and exchange.jws is not None
        inner = parse(exchange.payload())
        if inner.protected.get("url") != exchange.jws.protected["url"]:
            raise malformed("the inner url is not the outer url")
        if "nonce" in inner.protected or "kid" in inner.protected:
            raise malformed("the inner JWS has neither nonce nor kid")
        jwk = inner.protected.get("jwk")
        verify(inner, load_jwk(jwk))
        assert isinstance(jwk, dict)
        claim = json_object(inner.payload, "the inner payload")
        if claim.get("account") != account.url:
            raise malformed("the inner payload names another account")
        old = claim.get("oldKey")
        load_jwk(old)
        if thumbprint(old) != account.thumbprint:  # type: ignore[arg-type]
            raise malformed("oldKey is not the account's key")
        taken = self._state.account_by_key(thumbprint(jwk))
        if taken is not None:
            headers = {"Location": taken.url}
            raise Problem("malformed", "the new key is in use", 409, headers=headers)
        account.jwk, account.thumbprint = jwk, thumbprint(jwk)
        return self._show(account)

    def _own(self, exchange: Exchange) -> Account:
        account = exchange.account
        assert account is not None
        if account.url.rsplit("/", 1)[1] != exchange.arguments[0]:
            raise Problem("unauthorized", "this is not your account")
        return account

    def _show(self, account: Account, status: int = 200, *headers: tuple[str, str]) -> Answer:
        shown = {
            "status": account.status,
            "contact": account.contact,
            "orders": account.url + "/orders",
            "key": account.jwk,
        }
        return document(shown, status, *headers)

    def _bound_to(self, binding: Any, jwk: dict[str, Any]) -> str | None:
        keys = self._state.options.eab
        if keys is None:
            return None
        if not isinstance(binding, dict):
            raise Problem("externalAccountRequired", "this CA wants an external account binding")
        jws = parse(binding)
        kid = jws.protected.get("kid")
        if set(jws.protected) != {"alg", "kid", "url"}:
            raise malformed("the binding's header has alg, kid and url, no more")
        if jws.protected["url"] != self._state.base + "/new-account":
            raise malformed("the binding's url is not newAccount")
        if not isinstance(kid, str) or kid not in keys:
            raise Problem("unauthorized", "the binding names an unknown key")
        verify_hmac(jws, keys[kid])
        if json.loads(jws.payload) != jwk:
            raise malformed("the binding is for another account key")
        return kid


def check_contact(contact: Any) -> list[str]:
    """Return the contacts when each one is a mailto URL for one address (section 7.3)."""
    if not isinstance(contact, list) or not all(isinstance(one, str) for one in contact):
        raise malformed("contact is not a list of URLs")
    for one in contact:
        if not one.startswith("mailto:"):
            raise Problem("unsupportedContact", f"{one} is not a mailto URL")
        if not _MAILTO.fullmatch(one):
            raise Problem("invalidContact", f"{one} is not one e-mail address")
    return contact
