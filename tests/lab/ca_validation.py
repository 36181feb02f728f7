"""Does the subscriber control the name? The DNS challenges, CAA, and the choice among them."""

from __future__ import annotations

import hashlib
import re
from concurrent.futures import Executor

from .ca_http01 import Http01
from .ca_jws import encode
from .ca_model import Account, Authorization, Challenge, Order, State
from .problems import Problem
from .resolver import LookupFailed, Resolver

_PARAMETER = re.compile(r"([A-Za-z0-9]+)[ \t]*=[ \t]*([\x21-\x3a\x3c-\x7e]*)")


class Validation:
    """Runs validations; every method raises a Problem when control is not shown.

    Args:
        perspectives: how many fetches of an http-01 challenge run at once; all must succeed.
    """

    def __init__(
        self,
        state: State,
        resolver: Resolver,
        http01: Http01,
        workers: Executor,
        perspectives: int = 1,
    ) -> None:
        self._state = state
        self._resolver = resolver
        self._http01 = http01
        self._workers = workers
        self._perspectives = perspectives

    def validate(self, authorization: Authorization, challenge: Challenge) -> None:
        """Check one challenge."""
        fault = self._state.faults.take("invalid_authorization", challenge.kind, authorization)
        if fault:
            raise Problem(fault["problem"], fault["detail"])
        account = authorization.account
        expected = f"{challenge.token}.{account.thumbprint}"
        if challenge.kind == "http-01":
            self._http_01(authorization.name, challenge.token, expected)
        elif challenge.kind == "dns-01":
            self._dns_01(authorization.name, expected)
        else:
            self._dns_persist_01(authorization, account)

    def _http_01(self, name: str, token: str, expected: str) -> None:
        others = [
            self._workers.submit(self._http01.check, name, token, expected)
            for _ in range(self._perspectives - 1)
        ]
        self._http01.check(name, token, expected)
        for other in others:
            other.result()

    def _dns_01(self, name: str, expected: str) -> None:
        where = f"_acme-challenge.{name}"
        wanted = encode(hashlib.sha256(expected.encode()).digest()).encode()
        found = self._texts(where)
        if wanted not in found:
            raise Problem(
                "unauthorized", f"{where}: none of the {len(found)} TXT records is {wanted!r}"
            )

    def _texts(self, where: str) -> list[bytes]:
        try:
            return self._resolver.texts(where)
        except LookupFailed as failed:
            raise Problem("dns", str(failed)) from None

    # --- dns-persist-01 ---

    def _dns_persist_01(self, authorization: Authorization, account: Account) -> None:
        where = f"_validation-persist.{authorization.name}"
        accepted = self._account_uris(authorization.name, account)
        reasons = []
        for text in self._texts(where):
            reason = self._judge(text, accepted, authorization.wildcard)
            if reason is None:
                return
            reasons.append(reason)
        raise Problem("unauthorized", f"{where}: {'; '.join(reasons) or 'no TXT record'}")

    def _account_uris(self, name: str, account: Account) -> set[str]:
        if self._state.options.persist_draft == 1:
            return {account.url}
        prefix = f"{self._state.base}/account-hash/"
        return {
            account_hash_uri(prefix, domain, account.thumbprint, account.url)
            for domain in (name, "*")
        }

    def _judge(self, text: bytes, accepted: set[str], wildcard: bool) -> str | None:
        record = parse_issue_value(text)
        if record is None:
            return "a record that is not an issue value"
        issuer, parameters = record
        domains = {canonical_issuer(d) for d in self._state.options.issuer_domains}
        if canonical_issuer(issuer) not in domains:
            return f"issuer {issuer!r} is not this CA"
        if parameters.get("accounturi") not in accepted:
            return "accounturi is not this account"
        if wildcard and parameters.get("policy", "").lower() != "wildcard":
            return "the record does not allow wildcards"
        until = parameters.get("persistuntil")
        if until is not None:
            if not until.isascii() or not until.isdecimal():
                return "persistUntil is not a number"
            if self._state.clock() > int(until):
                return "persistUntil is over"
        return None

    # --- CAA ---

    def check_caa(self, order: Order) -> None:
        """Raise a caa Problem, with subproblems, unless every name permits this CA."""
        if not self._state.options.caa:
            return
        refused = []
        for authorization in order.authorizations:
            try:
                self._caa_permits(authorization)
            except Problem as problem:
                refused.append((authorization.identifier, problem))
        if len(refused) == 1:
            raise refused[0][1]
        if refused:
            raise Problem("caa", "CAA forbids several names", subproblems=refused)

    def _caa_permits(self, authorization: Authorization) -> None:
        labels = authorization.name.split(".")
        try:
            for depth in range(len(labels) - 1):  # the top-level domains are not in the lab
                where = ".".join(labels[depth:])
                if records := self._resolver.caa(where):
                    break
            else:
                return
        except LookupFailed as failed:
            raise Problem("caa", str(failed)) from None
        by_tag: dict[str, list[str]] = {}
        for flags, tag, value in records:
            by_tag.setdefault(tag.lower(), []).append(value)
            if flags & 128 and tag.lower() not in ("issue", "issuewild", "iodef", "issuemail"):
                raise Problem("caa", f"{where}: unknown critical property {tag}")
        issue = by_tag.get("issue")
        if authorization.wildcard:
            issue = by_tag.get("issuewild", issue)
        if issue is not None and not any(self._caa_matches(v, authorization) for v in issue):
            raise Problem("caa", f"{where}: CAA does not permit this CA, account and method")

    def _caa_matches(self, value: str, authorization: Authorization) -> bool:
        record = parse_issue_value(value.encode())
        if record is None:
            return False
        issuer, parameters = record
        if canonical_issuer(issuer) not in map(
            canonical_issuer, self._state.options.issuer_domains
        ):
            return False
        if parameters.get("accounturi", authorization.account.url) != authorization.account.url:
            return False
        methods = parameters.get("validationmethods")
        used = [c.kind for c in authorization.challenges if c.status == "valid"]
        return methods is None or any(kind in methods.split(",") for kind in used)


def parse_issue_value(text: bytes) -> tuple[str, dict[str, str]] | None:
    """Return issuer and parameters (names in lower case) of an RFC 8659 issue-value, or None."""
    try:
        first, *rest = text.decode("ascii").split(";")
    except UnicodeDecodeError:
        return None
    parameters: dict[str, str] = {}
    if rest and not rest[-1].strip(" \t"):
        rest.pop()
    for part in rest:
        match = _PARAMETER.fullmatch(part.strip(" \t"))
        if match is None or match[1].lower() in parameters:
            return None
        parameters[match[1].lower()] = match[2]
    return first.strip(" \t"), parameters


def canonical_issuer(name: str) -> str:
    """Return an issuer domain name as it is compared: lower case, no dot at its end."""
    return name.lower().removesuffix(".")


def account_hash_uri(prefix: str, domain: str, thumbprint: str, account_url: str) -> str:
    """Return the accounturi of draft-ietf-acme-dns-persist-02 section 10."""
    name = domain.encode()
    digest = hashlib.sha256(bytes([len(name)]) + name + thumbprint.encode() + account_url.encode())
    return f"{prefix}sha-256/{encode(digest.digest())}"
