"""The running agent: opens the listeners, keeps memory in step with the store, stops in order."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import resource
import secrets
import signal
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from external_agent.composition.authorities import authorities_of
from external_agent.composition.changes import Changes, MakeWorker
from external_agent.doctor.doctor import Doctor
from external_agent.doctor.halves import Halves
from external_agent.doctor.turns import Turns
from external_agent.facts.issues import Concern
from external_agent.facts.overview import Overview
from external_agent.operator import local_socket
from external_agent.operator.app import behind_gate
from external_agent.operator.operator_app import operator_app
from external_agent.operator.services import Services
from external_agent.orders.certificate_authority import Connector
from external_agent.orders.keymaker import KeyMaker
from external_agent.present.alerts.settings import manner_of
from external_agent.present.alerts.watch import AlertWatch
from external_agent.present.dashboard.app import Dashboard
from external_agent.present.dashboard.front import Front
from external_agent.present.metrics.gauges import Gauges
from external_agent.present.metrics.metrics import Metrics
from external_agent.relay.admission import Admission
from external_agent.relay.authentication import Authenticator
from external_agent.relay.challenge_app import ChallengeListener
from external_agent.relay.challenge_http import ChallengeAnswers
from external_agent.relay.change_notifier import Bell
from external_agent.relay.enrolment import token_maker
from external_agent.relay.rehearsal import Rehearsals, RehearsalTools
from external_agent.relay.relay_app import RelayApp
from external_agent.relay.relay_tls import Pair, RelayKeys
from external_agent.relay.servers import MOST_CONNECTIONS, WebServer, tls_context
from external_agent.relay.signed_messages import SignedMessages
from external_agent.settings import addresses, keys
from external_agent.settings.config import Settings
from external_agent.store.interface import Store
from shared.contract.enrolment_token import authority
from shared.contract.errors import ConfigurationError, PortUnavailable, RelayError, StoreError
from shared.contract.x509 import spki_sha256
from shared.host.notify import notify_systemd
from shared.host.trusted_file import check_trusted

_POLL_SECONDS = 1.0
_TELL_SECONDS = 5.0
_THREADS = 8
_WORKER_SECONDS = 20.0
_log = structlog.get_logger(__name__)
Sockets = dict[str, list[socket.socket]]


def open_sockets(settings: Settings, environ: Mapping[str, str]) -> Sockets:
    """Return the listening sockets by listener: passed by systemd, else bound.

    Raises:
        PortUnavailable: one cannot be bound; none stays open.
    """
    passed = addresses.passed_sockets(environ, os.getpid())
    wanted = {
        "challenge": settings.challenge.listen,
        "relay": settings.relay.listen,
        "operator": settings.operator.listen,
    }
    unknown = set(passed) - set(wanted)
    if unknown:
        raise ConfigurationError(
            f"systemd passed a socket named {min(unknown)!r:.40}.",
            do="Name it with FileDescriptorName=: challenge, relay or operator.",
        )
    found: Sockets = {}
    try:
        for name, texts in wanted.items():
            parsed = [addresses.parse_address(text) for text in texts]
            found[name] = passed.get(name) or addresses.bind(parsed, name)
    except PortUnavailable:
        for one in (*found.values(), *passed.values()):
            for listener in one:
                listener.close()
        raise
    return found


def relay_tls(settings: Settings, own: Pair | None = None) -> ssl.SSLContext | None:
    """Return the TLS context of the relay listener; ``None`` behind a proxy on loopback.

    Args:
        own: the public certificate that the agent got for itself, if it has one.

    Raises:
        ConfigurationError: the files are missing or do not fit each other.
        LooseFileMode: others may read the key.
    """
    files = keys.tls_files(settings) if own is None else (own.certificate, own.key)
    return None if files is None else _tls(*files)


def operator_tls(settings: Settings) -> ssl.SSLContext | None:
    """Return the TLS context of the operator listener; ``None`` on loopback without TLS.

    Raises:
        ConfigurationError, LooseFileMode: as :func:`relay_tls`.
    """
    files = (settings.operator.certificate_file, settings.operator.key_file)
    return None if files[0] is None or files[1] is None else _tls(files[0], files[1])


def _tls(certificate: Path, key: Path) -> ssl.SSLContext:
    keys.read_secret(key)
    check_trusted(certificate, "certificate file")
    try:
        return tls_context(str(certificate), str(key))
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"{certificate} and {key} cannot be used for TLS: {error}."
        ) from error


class Agent:
    """All listeners and the worker, in one event loop.

    Args:
        sockets: from :func:`open_sockets`; owned by the agent from here on.
        make_worker: is given the :class:`Changes` to tell, a way to the settings as they are now,
            and where to count; ``None`` issues nothing.
        key_maker: for rehearsals; ``None`` rehearses nothing.
        clock: unix seconds.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        agent_keys: keys.AgentKeys,
        sockets: Sockets,
        *,
        make_worker: MakeWorker | None = None,
        key_maker: KeyMaker | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self._sockets = sockets
        self._local_path = settings.operator_socket
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="store")
        self._bell = Bell()
        self._clock = clock
        self._stopping: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        answers = ChallengeAnswers()
        self.changes = Changes(store, answers, self._bell)
        metrics = Metrics()
        self._worker = (
            make_worker(self.changes, lambda: self.settings, metrics) if make_worker else None
        )
        self._challenge = ChallengeListener(
            answers,
            max_connections=_permitted_connections(settings.challenge.max_connections, 2),
            timeout=settings.challenge.timeout,
        )
        metrics.gauges = Gauges(
            challenges_answered=lambda: self._challenge.requests,
            challenges_known=lambda: answers.hits,
            parked=lambda: self._bell.waiting,
            running=lambda: 0 if self._worker is None else self._worker.running,
        )
        halves = Halves()
        doctor = Turns(
            Doctor(store, lambda: self.settings, self._authorities, answers, clock).examine,
            lambda: self.settings.doctor.pause,
        )
        rehearsals = (
            None
            if key_maker is None
            else Rehearsals(
                RehearsalTools(
                    store,
                    lambda: self.settings,
                    self._authorities,
                    key_maker,
                    answers,
                    agent_keys.signing,
                    lambda: int(clock()),
                )
            )
        )
        calls = RelayApp(
            store,
            self._bell,
            clock,
            self._run,
            self._own_keys,
            doctor=doctor,
            halves=halves,
            rehearsals=rehearsals,
        ).asgi()
        relay = SignedMessages(
            calls,
            Authenticator(store, [authority(url) for url in settings.relay_origins], self._run),
            Admission(store, calls.routes, self._run, clock),
            agent_keys.signing,
            clock=clock,
            observe=metrics.observe_relay,
        )
        self._relay_keys = RelayKeys(store, settings.state_directory)
        self._own_until: int | None = None
        self._tls = relay_tls(settings, self._own_pair(settings))
        self.changes.on_own_certificate = self._own_certificate_changed
        self._relay = WebServer(relay, self._tls, most=_permitted_connections(MOST_CONNECTIONS, 4))
        self._trouble = "starting"
        services = Services(
            store,
            clock,
            self._run,
            settings=lambda: self.settings,
            token_maker=lambda: token_maker(self.settings, agent_keys),
            authorities=self._authorities,
            examine=doctor.of_operator,
            halves=halves,
            random=secrets.token_bytes,
            observe_access=metrics.observe_access,
            unexpected=lambda error: _log.error("error in the operator API", exc_info=error),
            allowed_hosts=settings.operator.allowed_hosts,
            open_read=settings.operator.open_read,
        )
        self._store = store
        app = operator_app(services, metrics, lambda: self._trouble, self._concerns)
        api = behind_gate(app, services)
        self._overview = Overview(store, clock, lambda: self.settings.attention.thresholds)
        self._manner = manner_of(settings)
        self._alerts = AlertWatch(
            store,
            self._concerns,
            lambda: self._manner,
            clock=clock,
            observe=metrics.observe_alert,
        )
        pages = Dashboard(
            api,
            self._overview,
            self._run,
            clock,
            secure=settings.operator.certificate_file is not None,
        )
        front = Front(api, pages.asgi(), settings.operator.allowed_hosts)
        self._operator_tls = operator_tls(settings)
        most = _permitted_connections(MOST_CONNECTIONS, 16)
        self._operator = WebServer(front, self._operator_tls, most=most)
        self._local = WebServer(api, most=most, who=local_socket.state_of)

    async def _run(self, function: Callable[..., Any], *args: Any, **named: Any) -> Any:
        loop, context = asyncio.get_running_loop(), contextvars.copy_context()
        work = partial(context.run, function, *args, **named)
        return await loop.run_in_executor(self._executor, work)

    def _authorities(self) -> Connector:
        return authorities_of(lambda: self.settings, self._store)

    def _judge_all(self) -> None:
        with contextlib.suppress(StoreError):
            self._overview.snapshot()

    def _concerns(self) -> Iterable[Concern]:
        return self._overview.snapshot().concerns

    def _own_keys(self) -> frozenset[str]:
        """The account keys as they are on the disk now: a roll-over needs no restart."""
        found = keys.load_account_keys(self.settings.state_directory)
        both = (found.current, found.following)
        return frozenset(spki_sha256(key) for key in both if key is not None)

    def bound(self) -> dict[str, list[tuple[str, int]]]:
        """Return where each listener listens."""
        return {
            name: [one.getsockname()[:2] for one in sockets]
            for name, sockets in self._sockets.items()
        }

    async def serve(self, ready: Callable[[], None] = lambda: None) -> None:
        """Run until :meth:`stop`.

        Args:
            ready: called once when every listener is open.
        """
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._bell.attach(self._loop)
        await self._poll()
        await self._challenge.start(self._sockets["challenge"])
        await self._relay.start(self._sockets["relay"])
        await self._operator.start(self._sockets["operator"])
        await self._local.start([local_socket.listen(self._local_path)])
        if self._worker is not None:
            self._worker.start()
        tasks = [
            asyncio.create_task(self._keep_in_step()),
            asyncio.create_task(self._keep_telling()),
        ]
        self._executor.submit(self._judge_all)  # so that the first look need not wait for it
        ready()
        try:
            await self._stopping.wait()
        finally:
            self._alerts.stop()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._end()

    def reload(self, settings: Settings) -> None:
        """Take over what may change while running: the relay's TLS files, for new connections.

        Raises:
            ConfigurationError, LooseFileMode: the files cannot be used; the old ones stay.
        """
        manner = manner_of(settings)
        own = self._own_pair(settings)
        relay_tls(settings, own)
        files = keys.tls_files(settings) if own is None else (own.certificate, own.key)
        operator_tls(settings)
        if files is not None and self._tls is not None:
            self._tls.load_cert_chain(*files)
        if self._operator_tls is not None and settings.operator.certificate_file is not None:
            self._operator_tls.load_cert_chain(
                settings.operator.certificate_file, settings.operator.key_file
            )
        self.settings, self._manner = settings, manner

    def _own_pair(self, settings: Settings) -> Pair | None:
        """Return the relay's public certificate, and remember until when it will do."""
        now = int(self._clock())
        own = self._relay_keys.pair(now) if settings.relay.tls == "acme" else None
        self._own_until = None if own is None else own.not_after
        return own

    def _own_certificate_changed(self) -> None:
        """Serve new connections with it; open ones go on. From any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._take_own_certificate)

    def _take_own_certificate(self) -> None:
        try:
            self.reload(self.settings)
            _log.info("the relay's certificate was changed", until=self._own_until)
        except RelayError as error:
            _log.error("the relay goes on with its old certificate", error=error.what)

    def stop(self) -> None:
        """Ask the agent to stop; from any thread, also from a signal handler."""
        if self._loop is not None and self._stopping is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stopping.set)

    async def _end(self) -> None:
        self._trouble = "stopping"
        notify_systemd("STOPPING=1")
        self._bell.close()  # parked polls answer with what there is
        await self._relay.stop()
        # Challenges are answered until the orders under way have reached a commit.
        if self._worker is not None:
            await self._run(self._worker.stop, _WORKER_SECONDS)
        await self._challenge.stop()
        await self._operator.stop()
        await self._local.stop()
        local_socket.take_away(self._local_path)
        self._executor.shutdown(wait=True)

    async def _keep_in_step(self) -> None:
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            await self._poll()
            notify_systemd("WATCHDOG=1")  # loop and threads are alive, whatever the store says
            if self._own_until is not None and self._own_until <= self._clock():
                self._take_own_certificate()  # the self-made one, which pullers may have pinned

    async def _keep_telling(self) -> None:
        while True:
            await asyncio.sleep(_TELL_SECONDS)
            try:
                await self._run(self._alerts.look)
            except StoreError as error:
                _log.warning("no look at alerts", error=error.what)
            except Exception:  # one bad turn must not be the last
                _log.exception("unexpected error in alerts")

    async def _poll(self) -> None:
        try:
            changed = await self._run(self.changes.poll)
        except StoreError as error:
            if error.what != self._trouble:
                _log.warning("the store is not available", error=error.what)
            self._trouble = error.what
            return
        except Exception as error:  # one bad turn must not be the last
            _log.exception("unexpected error while looking for changes")
            self._trouble = f"unexpected {type(error).__name__}"
            return
        self._trouble = ""
        if changed and self._worker is not None:
            self._worker.wake()


def _permitted_connections(wanted: int, part: int) -> int:
    """Raise the limit of open files as far as we may, and stay within one ``part`` of it.

    No listener can take the descriptors that another one, or the store, needs.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    target = hard if hard != resource.RLIM_INFINITY else max(soft, 65536)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(target, 65536)), hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(16, min(wanted, soft // part))


def run_until_signalled(agent: Agent, on_reload: Callable[[], None]) -> None:
    """Serve until SIGTERM or SIGINT; SIGHUP calls ``on_reload``. Needs the main thread."""
    import uvloop

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, agent.stop)
        loop.add_signal_handler(signal.SIGHUP, on_reload)
        await agent.serve(ready=ready)

    def ready() -> None:
        notify_systemd("READY=1")
        _log.info("listening", **_texts(agent))

    uvloop.run(main())
    _log.info("stopped")


def _texts(agent: Agent) -> dict[str, list[str]]:
    return {
        name: [str(addresses.Address(*one)) for one in found]
        for name, found in agent.bound().items()
    }
