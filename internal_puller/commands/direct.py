"""``direct …``: certificates that this machine gets from a CA by itself."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from contextlib import closing
from typing import Annotated, Any

import typer

from internal_puller.commands.tables import print_table
from internal_puller.install.lock import installation_lock
from internal_puller.settings.config import Settings, load_settings
from internal_puller.settings.targets import load_targets
from internal_puller.sources.direct.file import add_certificate, remove_certificate
from internal_puller.sources.direct.ordering import missing_extra
from internal_puller.sources.direct.record import DirectFiles, DirectProgress
from internal_puller.sources.direct.settings import (
    CHALLENGES,
    KEY_ALGORITHMS,
    DirectCertificate,
    DirectSettings,
    certificate_from,
    load_direct,
    require_direct,
)
from internal_puller.sources.direct.status import direct_status
from internal_puller.state.state import StateDirectory
from shared.acme.revocation import REASONS, reason_code
from shared.contract.errors import ConfigurationError, IssuanceRateLimited, PolicyError
from shared.host.terminal import emit, emit_json

LOCK_WAIT = 20.0
direct = typer.Typer(
    help="Certificates that this machine gets from a CA by itself, outward only.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Certificate = Annotated[str, typer.Argument(help="Its id, or a name in it.")]


def add(
    context: typer.Context,
    names: Annotated[list[str], typer.Argument(help="DNS names; the first one names it.")],
    *,
    challenge: Annotated[str, typer.Option(help=f"One of {', '.join(CHALLENGES)}.")] = "dns-01",
    key_algorithm: Annotated[
        str | None, typer.Option(help=f"One of {', '.join(KEY_ALGORITHMS)}.")
    ] = None,
    profile: Annotated[str | None, typer.Option(help="A profile that the CA offers.")] = None,
    preferred_chain: Annotated[
        str | None, typer.Option(help="Common name of the issuer the chain is to end in.")
    ] = None,
    ca: Annotated[
        list[str] | None,
        typer.Option("--ca", help="A CA of direct.toml; repeated: tried in this order."),
    ] = None,
    identifier: Annotated[
        str | None, typer.Option("--id", help="Its id, if not the first name.")
    ] = None,
) -> None:
    """Want a certificate, or change one; with other names a new one is ordered at once."""
    settings = load_settings(context.obj)
    known = require_direct(settings.direct_file)
    wanted = certificate_from(
        names,
        challenge,
        identifier=identifier,
        key_algorithm=key_algorithm,
        profile=profile,
        preferred_chain=preferred_chain,
        ca=tuple(ca) if ca else None,
    )
    directories = known.directories(wanted)
    _refuse_granted(settings, wanted)
    _check_challenge(known, challenge)
    add_certificate(settings.direct_file, wanted)
    with_record = challenge == "dns-persist-01"
    has_target = any(
        one.certificate == wanted.certificate for one in load_targets(settings.targets_file)
    )
    emit(
        f"{wanted.certificate}: {', '.join(wanted.names)} by {challenge} from "
        f"{', then '.join(directories)}",
        "Its names will stand in public Certificate Transparency logs.",
    )
    if with_record:
        listed = " ".join(wanted.names)
        emit(f"Next: internal-puller direct dns-persist record {listed}")
    if has_target:
        emit("Next: internal-puller pull")
    else:
        emit(f"Next: internal-puller target add {wanted.certificate} --preset nginx")


def list_direct(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Show what is wanted, what was issued, and when the next order is made."""
    settings = load_settings(context.obj)
    known = require_direct(settings.direct_file)
    found = direct_status(known, settings)
    if as_json:
        members = [
            {
                "certificate": one.certificate,
                "names": one.names,
                **dataclasses.asdict(found[one.certificate]),
            }
            for one in known.certificates
        ]
        emit_json(members)
        return
    rows = []
    for one in known.certificates:
        state = found[one.certificate]
        rows.append(
            (
                one.certificate,
                ", ".join(one.names),
                one.challenge,
                str(state.issued or "-"),
                _day(state.not_after),
                _day(state.next_renewal) if state.next_renewal else "now",
            )
        )
    print_table(("certificate", "names", "challenge", "issued", "expires", "next order"), rows)


def renew(context: typer.Context, certificate: Certificate) -> None:
    """Order a new generation at the next pull, a pause after a failure notwithstanding."""
    settings = load_settings(context.obj)
    known = require_direct(settings.direct_file)
    wanted = known.find(certificate)
    files = DirectFiles(settings.state_directory)
    files.create()
    with installation_lock(files.lock_path, wait=LOCK_WAIT):
        own = files.of(wanted.certificate)
        progress = own.progress() or DirectProgress()
        _order_again(progress, known.directories(wanted), "an operator asked for it")
        own.save_progress(progress)
    emit(f"{wanted.certificate} is ordered again at the next pull.")
    _say_pause(progress)


def remove(context: typer.Context, certificate: Certificate) -> None:
    """Want a certificate no more. What is installed stays, and its server goes on serving it."""
    settings = load_settings(context.obj)
    known = require_direct(settings.direct_file)
    gone = known.find(certificate)
    files = DirectFiles(settings.state_directory)
    files.create()
    with installation_lock(files.lock_path, wait=LOCK_WAIT):
        remove_certificate(settings.direct_file, gone.certificate)
        files.of(gone.certificate).remove()
    _report_removed(settings, gone)
    emit(f"{gone.certificate}: no more orders. Installed files stay.")
    for target in load_targets(settings.targets_file):
        if target.certificate == gone.certificate:
            emit(
                f"Next: internal-puller target remove {gone.certificate}, or let an agent grant it."
            )
            break


def revoke(
    context: typer.Context,
    certificate: Certificate,
    *,
    reason: Annotated[str, typer.Option(help=f"One of {', '.join(REASONS)}.")] = "unspecified",
    by_key: Annotated[
        bool, typer.Option("--by-key", help="Asked by the certificate's own key, not by account.")
    ] = False,
) -> None:
    """Tell the CA that the newest generation is not to be trusted any more, and order another."""
    settings = load_settings(context.obj)
    known = require_direct(settings.direct_file)
    wanted = known.find(certificate)
    code = reason_code(reason)
    files = DirectFiles(settings.state_directory)
    files.create()
    own = files.of(wanted.certificate)
    with installation_lock(files.lock_path, wait=LOCK_WAIT):
        issued = own.issued()
        if issued is None:
            raise ConfigurationError(f"No certificate was issued for {wanted.certificate} yet.")
        with closing(_client(known, settings, issued.directory)) as client:
            from shared.acme.keys import load_account_key

            key = load_account_key(issued.key.encode("ascii")) if by_key else None
            client.revoke(issued.chain.encode("ascii"), code, key=key)
        progress = own.progress() or DirectProgress()
        _order_again(progress, known.directories(wanted), "the one before was revoked")
        own.save_progress(progress)
    emit(
        f"{wanted.certificate}: generation {issued.generation} is revoked. It is still served: "
        "let another be issued now: internal-puller pull"
    )
    _say_pause(progress)


def _order_again(progress: DirectProgress, directories: Sequence[str], why: str) -> None:
    """Let the next pull order, a pause after a failure notwithstanding.

    Pauses that a CA asked for stay; with several CAs each has a pause of its own.
    """
    progress.renew = why
    if progress.error is None or progress.error.type != IssuanceRateLimited.type:
        progress.paused_at = progress.paused_until = 0
    if not progress.standings:
        return
    from shared.issuing.ca_choice import Standing, paused_until, without_own_pauses

    now = int(time.time())
    known = {url: Standing(**members) for url, members in progress.standings.items()}
    kept = without_own_pauses(known, now)
    progress.standings = {url: dataclasses.asdict(one) for url, one in kept.items()}
    progress.paused_until = paused_until(directories, kept, now)
    progress.paused_at = now if progress.paused_until else 0


def _say_pause(progress: DirectProgress) -> None:
    if progress.paused_until > time.time():
        emit(f"The CA asked to wait until {_minute(progress.paused_until)} UTC.")


def _client(known: DirectSettings, settings: Settings, directory: str) -> Any:
    try:
        from internal_puller.sources.direct.connection import DirectConnection
    except ModuleNotFoundError as error:
        raise missing_extra(error) from error
    return DirectConnection(known, settings, DirectFiles(settings.state_directory)).open(directory)


def _check_challenge(known: DirectSettings, challenge: str) -> None:
    try:
        from internal_puller.sources.direct.solving import check_challenge
    except ModuleNotFoundError as error:
        raise missing_extra(error) from error
    check_challenge(known, challenge)


def _refuse_granted(settings: Settings, wanted: DirectCertificate) -> None:
    """One certificate has one source, or two keys would change places for ever."""
    enrolment = StateDirectory.open(settings.state_directory).enrolment()
    granted = {grant.certificate for grant in enrolment.granted} if enrolment else set()
    known = load_direct(settings.direct_file)
    mine = {one.certificate for one in known.certificates} if known else set()
    if wanted.certificate in granted - mine:
        raise PolicyError(
            f"{wanted.certificate} is granted to this machine by its agent already.",
            do="Give it another id (--id), or remove it on the agent.",
        )


def _report_removed(settings: Settings, gone: DirectCertificate) -> None:
    """Let the agent forget it, if there is one; the next pull delivers."""
    from internal_puller.sources.direct.reports import removed_report

    state = StateDirectory.open(settings.state_directory)
    if state.enrolment() is None:
        return
    with installation_lock(settings.lock, wait=LOCK_WAIT):
        progress = state.progress()
        one = progress.of(gone.certificate)
        one.receipt = removed_report(gone.certificate, gone.names, now=int(time.time()))
        one.direct, one.error, one.reported = True, None, 0
        state.save_progress(progress, durable=True)


def _day(moment: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(moment)) if moment else "-"


def _minute(moment: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(moment))
