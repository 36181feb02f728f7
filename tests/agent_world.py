"""The issuing half of an agent, put together for a test: store, pullers, port 80, scheduler."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from external_agent.orders.certificate_authority import (
    CaSettings,
    CertificateAuthorities,
    no_binding,
)
from external_agent.orders.keymaker import KeyMaker, ProcessKeyMaker
from external_agent.orders.scheduler import Scheduler, make_scheduler
from external_agent.store.interface import Store
from external_agent.store.open import open_store
from shared.acme.dns01 import Dns01Settings
from shared.acme.keys import AccountKey, generate_account_key, load_account_key
from shared.acme.ports import ExternalAccountBinding, Failpoint, no_failpoint
from shared.contract.bundle import Manifest, parse_envelope
from shared.contract.key_policy import KeyAlgorithm, PrivateKey, load_key
from shared.contract.sealing import Identity, SealContext
from shared.contract.signing import SigningKey


@dataclass(frozen=True)
class Puller:
    """The keys of a machine inside."""

    signing: SigningKey = field(default_factory=SigningKey.generate)
    identity: Identity = field(default_factory=Identity.generate)
    host: str = "inside"

    @property
    def id(self) -> str:
        return self.signing.id


def nonce() -> str:
    return secrets.token_urlsafe(16)


def enrol(
    store: Store, certificates: Sequence[str], *, now: int, puller: Puller | None = None
) -> Puller:
    """Make a token for some certificates and redeem it with a puller's keys."""
    puller = puller or Puller()
    token = store.create_token(
        SigningKey.generate().public.public, certificates, now=now, expires_at=now + 3600
    )
    redeem(store, token.id, puller, now=now)
    return puller


def redeem(store: Store, token: str, puller: Puller, *, now: int) -> None:
    store.redeem_token(
        token,
        signing_key=puller.signing.public.public,
        sealing_key=puller.identity.recipient.public,
        host=puller.host,
        nonce=nonce(),
        now=now,
    )


def pull(
    store: Store, puller: Puller, certificate: str, agent: SigningKey, *, after: int = 0, now: int
) -> tuple[Manifest, PrivateKey] | None:
    """Fetch, verify and open the newest bundle above ``after``."""
    answer = store.bundle_for(puller.id, certificate, after, now=now)
    if answer.envelope is None:
        return None
    manifest = Manifest.decode(parse_envelope(answer.envelope).open(agent.public))
    assert manifest.sealed_key is not None
    context = SealContext(
        manifest.agent,
        puller.identity.id,
        manifest.generation,
        manifest.spki_sha256,
        manifest.certificate,
    )
    return manifest, load_key(puller.identity.open(manifest.sealed_key, context))


class ChallengeBoard:
    """A board in memory, without a listener: token to key authorization."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: dict[str, str] = {}

    def get(self, token: str) -> str | None:
        """Return the key authorization, exactly for ``token``; one look-up in a ``dict``."""
        return self._pending.get(token)

    def __len__(self) -> int:
        return len(self._pending)

    def put(self, token: str, key_authorization: str) -> None:
        with self._lock:
            self._pending = {**self._pending, token: key_authorization}

    def remove(self, token: str) -> None:
        with self._lock:
            self._pending = {t: value for t, value in self._pending.items() if t != token}


class Port80:
    """A challenge listener over a board; ``port`` is ephemeral."""

    def __init__(self, board: ChallengeBoard, port: int = 0) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer = board.get(self.path.rpartition("/")[2])
                body = (answer or "").encode()
                self.send_response(200 if answer else 404)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 128
            daemon_threads = True

        self._server = Server(("127.0.0.1", port), Handler)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class AgentWorld:
    """Everything the agent needs to issue, in a directory.

    Args:
        directory: state; ``relay.db`` in it.
        roots: PEM file for the CA's HTTPS server.
        clock: unix seconds.
        dns01: how DNS records are written; may be changed between attempts.
        wrap: puts something around the store that the issuance sees, such as failure points.
    """

    def __init__(
        self,
        directory: Path,
        *,
        directory_url: str,
        roots: Path | None,
        clock: Callable[[], float] = time.time,
        workers: int = 4,
        account_key: AccountKey | None = None,
        signing_key: SigningKey | None = None,
        board: ChallengeBoard | None = None,
        failpoint: Failpoint = no_failpoint,
        key_maker: KeyMaker | None = None,
        wrap: Callable[[Store], Store] = lambda store: store,
        wrap_key_maker: Callable[[KeyMaker], KeyMaker] = lambda maker: maker,
        owner: str = "agent",
        poll_seconds: float = 0.05,
        order_seconds: float = 60.0,
        dns01: Dns01Settings | None = None,
        eab: Callable[[], ExternalAccountBinding | None] = no_binding,
    ) -> None:
        self.directory_url = directory_url
        self.store: Store = open_store(f"sqlite:///{directory / 'relay.db'}")
        self.signing_key = signing_key or SigningKey.generate()
        self.dns01 = dns01 or Dns01Settings()
        self.board = ChallengeBoard() if board is None else board
        self._own_key_maker = None if key_maker else ProcessKeyMaker()
        self.published: list[str] = []
        self._clock = clock
        issuing_store = wrap(self.store)
        self.cas: dict[str, CaSettings] = {}
        self._default_ca = CaSettings(
            account_key=account_key or load_account_key(generate_account_key()),
            contact=("mailto:ops@example.com",),
            terms_agreed=True,
            trusted_roots=roots,
            eab=eab,
        )
        maker = key_maker or self._own_key_maker
        assert maker is not None
        self.scheduler: Scheduler = make_scheduler(
            issuing_store,
            signing_key=self.signing_key,
            authorities=CertificateAuthorities(
                issuing_store, self.ca_settings, clock=clock, now=self.now, failpoint=failpoint
            ),
            key_maker=wrap_key_maker(maker),
            board=self.board,
            workers=workers,
            clock=self.now,
            owner=owner,
            on_published=self.published.append,
            poll_seconds=poll_seconds,
            order_seconds=order_seconds,
            dns01=lambda: self.dns01,
        )

    def ca_settings(self, directory_url: str) -> CaSettings:
        """How a CA is reached: as `cas` says, else as the first."""
        return self.cas.get(directory_url, self._default_ca)

    def now(self) -> int:
        return int(self._clock())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._own_key_maker is not None:
            self._own_key_maker.close()
        self.store.close()

    def add(
        self,
        *names: str,
        certificate: str | None = None,
        key_algorithm: KeyAlgorithm = KeyAlgorithm.EC_P256,
        puller: Puller | None = None,
        **wanted: Any,
    ) -> tuple[str, Puller]:
        """Want a certificate, with a puller enrolled for it; `wanted` as the store takes it."""
        identifier = certificate or names[0]
        self.store.add_certificate(
            identifier,
            names,
            directory_url=self.directory_url,
            now=self.now(),
            key_algorithm=key_algorithm,
            **wanted,
        )
        return identifier, enrol(self.store, [identifier], now=self.now(), puller=puller)

    def pull(
        self, puller: Puller, certificate: str, *, after: int = 0
    ) -> tuple[Manifest, PrivateKey] | None:
        return pull(self.store, puller, certificate, self.signing_key, after=after, now=self.now())
