"""An honest relay in this process, built from the contract, that can be told to misbehave."""

from __future__ import annotations

import dataclasses
import os
import re
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import parse_qs

from cryptography.x509 import load_der_x509_csr

from shared.contract.batches import BatchAnswer, Refusal, decode_batch
from shared.contract.bundle import KeyOrigin, Manifest, sign_bundle
from shared.contract.csr import check_csr
from shared.contract.enrolment_token import EnrolmentToken, authority
from shared.contract.errors import CsrRefused, MalformedMessage, RelayError
from shared.contract.http_signatures import (
    CLOCK_TOLERANCE,
    PresentedSignature,
    SignedTarget,
    parse_signatures,
    sign_response,
    verify_request,
)
from shared.contract.key_policy import key_to_der
from shared.contract.sealing import Recipient, SealContext
from shared.contract.signing import SigningKey, VerifyKey
from shared.contract.strict_json import Members
from shared.contract.wire import (
    PROBLEM_TYPE,
    BundleAnswer,
    DirectReport,
    EnrolmentAnswer,
    EnrolmentRequest,
    Grant,
    Listing,
    Offer,
    Problem,
    Receipt,
)
from shared.contract.x509 import chain_to_pem, leaf_sha256, spki_sha256
from tests.authority import Authority, common_authority, new_key, pem_pair, self_signed

T = TypeVar("T")
_MACHINE = re.compile(r"[?&]installation=[^&]*&host=[^&]*")
Edit = Callable[[Manifest], Manifest]
FAULTS = frozenset(
    (
        "unsigned",
        "replayed",
        "wrong-key",
        "endless-body",
        "dribbled-body",
        "dribbled-headers",
        "redirect",
        "huge-headers",
        "cut",
        "busy",
        "edited",
        "encoded",
        "endless-interim",
        "cookie",
    )
)


@dataclass
class _Puller:
    key: VerifyKey
    recipient: Recipient
    granted: set[str] = field(default_factory=set)
    revoked: bool = False


@dataclass
class Issued:
    """One generation of a certificate as it was issued, whatever the bundle says."""

    generation: int
    names: tuple[str, ...]
    not_after: int
    leaf_sha256: str
    key_der: bytes
    bundles: dict[str, bytes]
    spki_sha256: str = ""


class FakeAgent:
    """
    Args:
        base: directory for the TLS key.
        host: what the relay URL says; the certificate is for it.
        public_tls: with a certificate of the test authority instead of a pinned one.
    """

    def __init__(
        self,
        base: Path,
        *,
        host: str = "127.0.0.1",
        public_tls: bool = False,
        tls_from: float | None = None,
        ca: Authority | None = None,
        signing_key: SigningKey | None = None,
    ) -> None:
        self.key = signing_key or SigningKey.generate()
        self.ca = ca or common_authority()
        self.pullers: dict[str, _Puller] = {}
        self.tokens: dict[str, tuple[VerifyKey, tuple[str, ...], list[str]]] = {}
        self.certificates: dict[str, tuple[str, ...]] = {}
        self.issued: dict[str, list[Issued]] = {}
        self.own_keys: set[str] = set()  # certificates whose keys the pullers make
        self.csrs: dict[str, bytes] = {}  # waiting, by certificate
        self.left: list[bytes] = []
        self.used_keys: set[str] = set()
        self.receipts: list[Receipt] = []
        self.direct_reports: list[DirectReport] = []
        self.requests: list[str] = []  # without what says which machine asks
        self.headers: list[dict[str, str]] = []
        self.fault: str | None = None
        self.faulty: Callable[[str], bool] = lambda path: True
        self.refuse: Problem | None = None
        self.refusing: Callable[[str], bool] = lambda path: True
        self.retry_after = ""
        self.unwelcome: set[str] = set()  # certificates whose receipts are not taken
        self.come_back = 3600
        self.call_version: Callable[[str], str] = lambda digest: digest
        self.clock: Callable[[], float] = time.time
        self.lose_answers = 0
        self.waiting = 0
        self._recorded: tuple[int, dict[str, str], bytes] | None = None
        self._changed = threading.Condition()
        self._server = _Server(self, _tls(self.ca, base, host, tls_from, public_tls=public_tls))
        self.port: int = self._server.server_address[1]
        self.url = f"https://{host}:{self.port}"
        self.tls_pin = None if public_tls else self._server.tls.spki
        self._thread = self._new_thread()

    def _new_thread(self) -> threading.Thread:
        return threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def start_again(self) -> None:
        """Listen again at the same address, with all that was known."""
        self._server = _Server(self, self._server.tls, self.port)
        self._thread = self._new_thread()
        self._thread.start()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop listening; parked questions end."""
        if self._thread.is_alive():
            self._server.stopping.set()
            with self._changed:
                self._changed.notify_all()
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()

    # --- what an operator and the CA do ---------------------------------------------------------

    def token(self, *certificates: str, lifetime: int = 3600, tls_pin: str | None = None) -> str:
        """Return the line that enrols one machine for ``certificates`` (names are the ids)."""
        seed = os.urandom(32)
        key = SigningKey(seed)
        self.tokens[key.id] = (key.public, certificates, [])
        for certificate in certificates:
            self.certificates.setdefault(certificate, (certificate.replace("_wildcard", "*"),))
        expiry = int(self.clock()) + lifetime
        pin = tls_pin or self.tls_pin
        return EnrolmentToken(self.url, self.key.public, seed, pin, expiry).encode()

    def issue(
        self,
        certificate: str,
        *,
        names: tuple[str, ...] | None = None,
        generation: int | None = None,
        lifetime: int = 90 * 86400,
        edit: Edit = lambda manifest: manifest,
        signing_key: SigningKey | None = None,
    ) -> Issued:
        """Issue a generation and publish a bundle for every puller that may have it.

        A certificate in ``own_keys`` is issued from the CSR that waits.
        """
        names = names or self.certificates[certificate]
        self.certificates.setdefault(certificate, names)
        now = int(self.clock())
        earlier = self.issued.setdefault(certificate, [])
        newest = earlier[-1].generation if earlier else 0
        number = generation if generation is not None else max(now, newest + 1)
        origin: KeyOrigin = "puller" if certificate in self.own_keys else "agent"
        key: Any = new_key()
        der = key_to_der(key)
        if origin == "puller":
            key, der = load_der_x509_csr(self.csrs[certificate]), b""
        leaf = self.ca.leaf(names, key, not_before=now - 60, lifetime=lifetime)
        not_after = int(leaf.not_valid_after_utc.timestamp())
        issued = Issued(number, names, not_after, leaf_sha256(leaf), der, {}, spki_sha256(leaf))
        for puller in self.pullers.values():
            if certificate not in puller.granted:
                continue
            context = SealContext(
                self.key.id, puller.recipient.id, number, spki_sha256(leaf), certificate
            )
            manifest = Manifest(
                agent=self.key.id,
                recipient=puller.recipient.id,
                certificate=certificate,
                names=tuple(sorted(names)),
                generation=number,
                issued_at=now,
                not_after=not_after,
                key_origin=origin,
                spki_sha256=spki_sha256(leaf),
                chain=chain_to_pem(self.ca.chain(leaf)),
                sealed_key=puller.recipient.seal(der, context) if der else None,
            )
            envelope, _ = sign_bundle(edit(manifest), signing_key or self.key)
            issued.bundles[puller.key.id] = envelope
        with self._changed:
            earlier.append(issued)
            self._changed.notify_all()
        return issued

    def revoke(self, puller: str) -> None:
        with self._changed:
            self.pullers[puller].revoked = True
            self._changed.notify_all()

    # --- the protocol ---------------------------------------------------------------------------

    def listing(self, puller: _Puller) -> Listing:
        offers = []
        for certificate in sorted(puller.granted):
            newest = self._newest(certificate, puller)
            offers.append(
                Offer(
                    certificate=certificate,
                    names=self.certificates[certificate],
                    generation=newest.generation if newest else 0,
                    not_after=newest.not_after if newest else 0,
                    key_origin="puller" if certificate in self.own_keys else "agent",
                    csr_wanted=certificate in self.own_keys and certificate not in self.csrs,
                )
            )
        listing = Listing.of(tuple(offers), self.come_back)
        return dataclasses.replace(listing, version=self.call_version(listing.version))

    def _newest(self, certificate: str, puller: _Puller) -> Issued | None:
        found = [one for one in self.issued.get(certificate, []) if puller.key.id in one.bundles]
        return found[-1] if found else None

    def answer(self, handler: _Handler, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body for a request."""
        path, _, query = handler.path.partition("?")
        target = SignedTarget(handler.command, authority(self.url), path, query)
        digest = handler.headers.get("Content-Digest")
        try:
            presented = parse_signatures(
                handler.headers.get("Signature-Input", ""), handler.headers.get("Signature", "")
            )
            token = self._verified_token(presented, target, body, digest)
            puller = self._verified_puller(presented["shr"], target, body, digest, new=bool(token))
        except (RelayError, KeyError):
            problem = Problem("not-authenticated", "Not authenticated", 401, "No.")
            return 401, {"Content-Type": PROBLEM_TYPE}, problem.encode()
        status, answer = self._decide(presented["shr"], puller, token, target, body)
        headers = sign_response(
            status, answer, presented["shr"].signature, self.key, created=int(self.clock())
        )
        if status != 200 and self.retry_after:
            headers["Retry-After"] = self.retry_after
        return status, headers, answer

    def _verified_token(
        self,
        presented: dict[str, PresentedSignature],
        target: SignedTarget,
        body: bytes,
        digest: str | None,
    ) -> str | None:
        if target.path != "/v1/enrolments":
            return None
        token = presented["token"]
        verify_request(token, target, body, digest, self.tokens[token.keyid][0])
        return token.keyid

    def _verified_puller(
        self,
        signature: PresentedSignature,
        target: SignedTarget,
        body: bytes,
        digest: str | None,
        *,
        new: bool,
    ) -> _Puller:
        if new:
            request = EnrolmentRequest.decode(body)
            key = VerifyKey(request.signing_key)
            puller = self.pullers.get(key.id) or _Puller(key, Recipient(request.sealing_key))
        else:
            puller = self.pullers[signature.keyid]
        verify_request(signature, target, body, digest, puller.key)
        return puller

    def _decide(
        self,
        signature: PresentedSignature,
        puller: _Puller,
        token: str | None,
        target: SignedTarget,
        body: bytes,
    ) -> tuple[int, bytes]:
        try:
            if self.refuse is not None and self.refusing(target.path):
                raise _Refusal(self.refuse)
            if abs(signature.created - self.clock()) > CLOCK_TOLERANCE:
                raise _Refusal.make("clock", 400, "Your clock is wrong.")
            if token is not None:
                return 200, self._enrol(token, puller)
            query = {name: values[0] for name, values in parse_qs(target.query).items()}
            return 200, self._answer(puller, target.path, query, body)
        except _Refusal as refusal:
            return refusal.problem.status, refusal.problem.encode()

    def _enrol(self, token: str, puller: _Puller) -> bytes:
        _, certificates, redeemed = self.tokens[token]
        if redeemed and redeemed != [puller.key.id]:
            raise _Refusal.make("token-used", 409, "This token was used by another machine.")
        redeemed[:] = [puller.key.id]
        self.pullers.setdefault(puller.key.id, puller).granted.update(certificates)
        grants = tuple(Grant(name, self.certificates[name]) for name in certificates)
        return EnrolmentAnswer(puller.key.id, grants).encode()

    def _answer(self, puller: _Puller, path: str, query: dict[str, str], body: bytes) -> bytes:
        self._check_not_revoked(puller)
        match path.split("/")[2:]:
            case ["certificates"]:
                self._wait(puller, query.get("since"), int(query.get("wait", "0")))
                self._check_not_revoked(puller)
                return self.listing(puller).encode()
            case ["certificates", certificate, "bundle"] if certificate in puller.granted:
                newest = self._newest(certificate, puller)
                number = newest.generation if newest else 0
                found = newest is not None and number > int(query.get("after", "0"))
                envelope = newest.bundles[puller.key.id] if newest and found else None
                if envelope is not None:
                    self._use_key(certificate)
                return BundleAnswer(number, envelope).encode()
            case ["certificates", certificate, "csr"] if certificate in puller.granted:
                return self._take_csr(certificate, body)
            case ["direct"]:
                return self._keep("reports", DirectReport.read, self.direct_reports, body)
            case ["receipts"]:
                return self._keep("receipts", Receipt.read, self.receipts, body)
        raise _Refusal.make("certificate-unknown", 404, "There is no such certificate for you.")

    def _keep(self, name: str, read: Callable[[Members], T], kept: list[T], body: bytes) -> bytes:
        refused = []
        with self._changed:
            for place, one in enumerate(decode_batch(body, name, read)):
                if isinstance(one, MalformedMessage):
                    refused.append(Refusal(place, "malformed-request", one.what))
                elif getattr(one, "certificate", "") in self.unwelcome:
                    refused.append(Refusal(place, "certificate-unknown", "It is not granted."))
                else:
                    kept.append(one)
            self._changed.notify_all()
        return BatchAnswer(tuple(refused)).encode()

    def _take_csr(self, certificate: str, der: bytes) -> bytes:
        with self._changed:
            self.left.append(der)
            self._changed.notify_all()
            try:
                if certificate not in self.own_keys:
                    raise CsrRefused("The agent makes the key.")
                csr = check_csr(der, self.certificates[certificate])
                if spki_sha256(csr) in self.used_keys:
                    raise CsrRefused("The key was used before.")
            except CsrRefused as error:
                raise _Refusal.make("csr-refused", 422, error.what) from error
            self.csrs[certificate] = der
            return b'{"accepted":true}'

    def _use_key(self, certificate: str) -> None:
        """What was fetched cannot be issued for again."""
        csr = self.csrs.get(certificate)
        newest = self.issued[certificate][-1]
        if csr is not None and newest.spki_sha256 == spki_sha256(load_der_x509_csr(csr)):
            with self._changed:
                self.used_keys.add(newest.spki_sha256)
                del self.csrs[certificate]
                self._changed.notify_all()

    def _check_not_revoked(self, puller: _Puller) -> None:
        if puller.revoked:
            raise _Refusal.make("puller-revoked", 403, "This machine was revoked.")

    def _wait(self, puller: _Puller, since: str | None, seconds: int) -> None:
        def is_over() -> bool:
            changed = self.listing(puller).version != since
            return changed or puller.revoked or self._server.stopping.is_set()

        with self._changed:
            self.waiting += 1
            self._changed.notify_all()
            self._changed.wait_for(is_over, min(seconds, 50))
            self.waiting -= 1

    def until(self, condition: Callable[[], bool], timeout: float = 20) -> bool:
        """Wait until something about this agent is so; tell whether it is."""
        with self._changed:
            return self._changed.wait_for(condition, timeout)

    # --- misbehaving ----------------------------------------------------------------------------

    def serve(self, handler: _Handler, body: bytes) -> None:
        path = handler.path.partition("?")[0]
        with self._changed:
            self.requests.append(f"{handler.command} {_MACHINE.sub('', handler.path)}")
            self.headers.append({name.lower(): value for name, value in handler.headers.items()})
            self._changed.notify_all()
        status, headers, answer = self.answer(handler, body)
        if self.lose_answers:
            self.lose_answers -= 1
            handler.close_connection = True
            return
        fault = self.fault if self.faulty(path) else None
        assert fault is None or fault in FAULTS, fault
        if fault is None:
            self._recorded = status, headers, answer
            handler.send(status, headers, answer)
        else:
            getattr(self, "_" + fault.replace("-", "_"))(handler, status, headers, answer)

    def _unsigned(self, handler: _Handler, status: int, headers: Any, answer: bytes) -> None:
        handler.send(status, {}, answer)

    def _replayed(self, handler: _Handler, status: int, headers: Any, answer: bytes) -> None:
        assert self._recorded is not None
        handler.send(*self._recorded)

    def _wrong_key(self, handler: _Handler, status: int, headers: Any, answer: bytes) -> None:
        signature = parse_signatures(
            handler.headers["Signature-Input"], handler.headers["Signature"]
        )["shr"].signature
        other = SigningKey.generate()
        created = int(self.clock())
        handler.send(
            status, sign_response(status, answer, signature, other, created=created), answer
        )

    def _edited(self, handler: _Handler, status: int, headers: Any, answer: bytes) -> None:
        handler.send(status, headers, answer.replace(b"3600", b"3601"))

    def _endless_body(self, handler: _Handler, status: int, headers: Any, answer: bytes) -> None:
        handler.head(status, headers | {"Transfer-Encoding": "chunked"})
        piece = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        while not self._server.stopping.is_set():
            handler.wfile.write(piece)

    def _dribbled_body(self, handler: _Handler, status: int, headers: Any, answer: bytes) -> None:
        handler.head(status, headers | {"Content-Length": "100000"})
        self._dribble(handler)

    def _dribbled_headers(
        self, handler: _Handler, status: int, headers: Any, answer: bytes
    ) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        self._dribble(handler)

    def _endless_interim(self, handler: _Handler, status: int, headers: Any, answer: bytes) -> None:
        while not self._server.stopping.is_set():
            handler.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _dribble(self, handler: _Handler) -> None:
        while not self._server.stopping.wait(0.05):
            handler.wfile.write(b"x")

    def _redirect(self, handler: _Handler, status: int, headers: Any, answer: bytes) -> None:
        handler.send(302, {"Location": "http://169.254.169.254/latest/meta-data"}, b"")

    def _huge_headers(self, handler: _Handler, status: int, headers: Any, answer: bytes) -> None:
        handler.send(status, {f"X-{number}": "x" * 8000 for number in range(100)}, answer)

    def _cut(self, handler: _Handler, status: int, headers: Any, answer: bytes) -> None:
        handler.head(status, headers | {"Content-Length": str(len(answer))})
        handler.wfile.write(answer[:10])
        handler.close_connection = True

    def _busy(self, handler: _Handler, status: int, headers: Any, answer: bytes) -> None:
        handler.send(503, {"Retry-After": "120"}, b"")

    def _encoded(self, handler: _Handler, status: int, headers: Any, answer: bytes) -> None:
        handler.send(status, headers | {"Content-Encoding": "gzip"}, answer)

    def _cookie(self, handler: _Handler, status: int, headers: Any, answer: bytes) -> None:
        handler.send(status, headers | {"Set-Cookie": "tracked=yes"}, answer)


class _Refusal(Exception):
    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.slug)
        self.problem = problem

    @classmethod
    def make(cls, slug: str, status: int, detail: str) -> _Refusal:
        return cls(Problem(slug, slug, status, detail))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if not self.server.stopping.is_set():
            self.server.agent.serve(self, body)
        if self.server.stopping.is_set():
            self.close_connection = True

    do_GET = do_POST = do_PUT = _serve  # noqa: N815 - the names that http.server calls

    def head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.head(status, headers | {"Content-Length": str(len(body))})
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@dataclass(frozen=True)
class _Tls:
    context: ssl.SSLContext
    spki: str


def _tls(ca: Authority, base: Path, host: str, begins: float | None, *, public_tls: bool) -> _Tls:
    key = new_key()
    begin = int(time.time() - 60 if begins is None else begins)
    if public_tls:
        chain = ca.chain(ca.leaf([host], key, not_before=begin))
    else:
        chain = (self_signed([host], key, not_before=begin),)
    path = base / f"relay-{os.urandom(4).hex()}.pem"
    path.write_bytes(pem_pair(chain, key))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return _Tls(context, spki_sha256(chain[0]))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, agent: FakeAgent, tls: _Tls, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.agent = agent
        self.tls = tls
        self.stopping = threading.Event()

    def finish_request(self, request: Any, client_address: Any) -> None:
        request.settimeout(60)
        with self.tls.context.wrap_socket(request, server_side=True) as tls:
            super().finish_request(tls, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are part of the tests."""


def edited(**members: Any) -> Edit:
    """Return an edit that replaces members of the manifest before it is signed."""
    return lambda manifest: dataclasses.replace(manifest, **members)
