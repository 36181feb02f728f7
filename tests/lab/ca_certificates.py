"""Certificates: issue, hand out, revoke, and say when to renew (RFC 8555 7.4.2, 7.6; RFC 9773)."""

from __future__ import annotations

from collections.abc import Callable

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from .ca_jws import decode, load_jwk
from .ca_model import Issued, Order, State, Window, rfc3339
from .ca_pki import moment, pem, spki
from .ca_protocol import Exchange, document
from .http_server import Answer
from .problems import Problem, malformed

_REASONS = {0, 1, 3, 4, 5}  # what the Baseline Requirements leave to subscribers
CheckCaa = Callable[[Order], None]


class Certificates:
    """Issuing, and the endpoints that deal with what was issued."""

    def __init__(self, state: State, check_caa: CheckCaa) -> None:
        self._state = state
        self._check_caa = check_caa

    def issue(self, order: Order) -> None:
        """Make the certificate of `order` and store it there."""
        if fault := self._state.faults.take("fail_issuance", "finalize", order):
            raise Problem(fault["problem"], fault["detail"])
        self._check_caa(order)
        assert order.csr is not None
        faults = self._state.faults
        public = order.csr.public_key()
        names = list(order.names)
        if faults.take("wrong_key", "finalize", order):
            public = ec.generate_private_key(ec.SECP256R1()).public_key()
        if fault := faults.take("wrong_names", "finalize", order):
            names = list(fault["names"])
        now = self._state.clock()
        validity = self._validity(order.profile)
        begin = int(now - min(self._state.options.backdate, validity / 10))
        leaf = self._state.pki.intermediate.sign_leaf(
            names,
            public,  # type: ignore[arg-type]
            moment(begin),
            moment(begin + max(validity - 1, 1)),
            with_common_name=order.profile in (None, "classic"),
        )
        order.certificate = Issued(
            at=now,
            leaf=leaf,
            names=tuple(names),
            order=order,
            url=self._state.new_url("cert"),
            chains=self._chains(leaf, order),
        )
        self._state.remember_issued(order.certificate)

    def _validity(self, profile: str | None) -> float:
        options = self._state.options
        if profile is None and options.validity is not None:
            return options.validity
        return options.profiles[profile or options.default_profile]

    def _chains(
        self, leaf: x509.Certificate, order: Order
    ) -> tuple[tuple[x509.Certificate, ...], ...]:
        pki = self._state.pki
        main = [leaf, pki.intermediate.certificate]
        if fault := self._state.faults.take("long_chain", "finalize", order):
            main += pki.fillers(max(0, fault["certificates"] - 2))
        return tuple(main), (leaf, pki.cross_signed.certificate)

    def download(self, exchange: Exchange) -> Answer:
        """A certificate's URL, or that of its alternate chain."""
        issued = self._own(exchange)
        number = exchange.arguments[1] if len(exchange.arguments) > 1 else "0"
        if number not in ("0", "1"):
            raise malformed("there is no such chain", 404)
        other = issued.url + ("/1" if number == "0" else "")
        return Answer(
            200,
            pem(issued.chains[int(number)]).encode(),
            [
                ("Content-Type", "application/pem-certificate-chain"),
                ("Link", f'<{self._state.link("alternate", other)}>;rel="alternate"'),
            ],
        )

    def _own(self, exchange: Exchange) -> Issued:
        url = f"{self._state.base}/cert/{exchange.arguments[0]}"
        issued = self._state.issued_by_url.get(url)
        if issued is None:
            raise malformed("there is no such certificate", 404)
        if issued.order.account is not exchange.account:
            raise Problem("unauthorized", "this certificate is not yours")
        return issued

    # --- revocation ---

    def revoke(self, exchange: Exchange) -> Answer:
        """revokeCert (section 7.6): by the account, by who controls the names, or by the key."""
        payload = exchange.payload()
        der = decode(payload.get("certificate"), "certificate")
        issued = next((one for one in self._state.issued if one.der == der), None)
        if issued is None:
            raise malformed("this CA did not issue that certificate", 404)
        self._may_revoke(exchange, issued)
        reason = payload.get("reason", 0)
        if type(reason) is not int or reason not in _REASONS:
            raise Problem("badRevocationReason", f"reason {reason!r} is not accepted")
        if issued.leaf.serial_number in self._state.revoked:
            raise Problem("alreadyRevoked", "that certificate is revoked already")
        self._state.revoked[issued.leaf.serial_number] = reason
        return Answer(200)

    def _may_revoke(self, exchange: Exchange, issued: Issued) -> None:
        if exchange.jwk is not None:
            if spki(load_jwk(exchange.jwk)) != spki(issued.leaf.public_key()):
                raise Problem("unauthorized", "that is not the certificate's key")
            return
        if issued.order.account is exchange.account:
            return
        held = {
            one.identifier
            for one in self._state.authorizations.values()
            if one.account is exchange.account and one.status == "valid"
        }
        if not set(issued.names) <= held:
            raise Problem("unauthorized", "this account may not revoke that certificate")

    # --- renewal information ---

    def renewal_info(self, exchange: Exchange) -> Answer:
        """renewalInfo (RFC 9773): a window that the test may set."""
        issued = self._state.find_issued(exchange.arguments[0])
        if issued is None:
            raise malformed("that is no certificate of this CA", 404)
        start, end = self._window(issued)
        shown: dict[str, object] = {
            "suggestedWindow": {"start": rfc3339(start), "end": rfc3339(end)}
        }
        if self._state.explanation_url:
            shown["explanationURL"] = self._state.explanation_url
        answer = document(shown)
        if self._state.renewal_retry_after is not None:
            answer.headers.append(("Retry-After", str(self._state.renewal_retry_after)))
        return answer

    def _window(self, issued: Issued) -> Window:
        state = self._state
        if issued.certid in state.renewal_windows:
            return state.renewal_windows[issued.certid]
        if callable(state.renewal_window):
            return state.renewal_window(issued)
        if state.renewal_window is not None:
            return state.renewal_window
        if issued.leaf.serial_number in state.revoked:
            return state.clock() - 3600, state.clock() - 1800
        begin = issued.leaf.not_valid_before_utc.timestamp()
        life = issued.leaf.not_valid_after_utc.timestamp() - begin
        return begin + life * 2 / 3, begin + life * 2 / 3 + max(life / 50, 2)
