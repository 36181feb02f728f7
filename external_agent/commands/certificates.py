"""``add``, ``token``, ``renew``, ``remove``, ``status``: what concerns certificates."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from external_agent.commands.context import (
    Context,
    emit,
    emit_json,
    find_certificate,
    one_of,
    parse_duration,
    say,
    token_maker,
)
from external_agent.commands.show import show_status
from external_agent.config import Settings
from external_agent.domain.policy import certificate_id, wanted_names
from external_agent.store.interface import Store
from external_agent.web.status_view import status_view
from shared.errors import ConfigurationError
from shared.x509 import KeyAlgorithm

_CHALLENGE = "http-01"  # the one that this release answers
CT_NOTE = (
    "Note: the name will show in public CT logs; a wildcard by a DNS challenge hides the host "
    "label."
)
Lifetime = Annotated[str, typer.Option("--lifetime", help="Of the token: 30m, 1h … at most 24h.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]


def add(
    context: typer.Context,
    names: Annotated[list[str], typer.Argument(help="DNS names of one certificate.")],
    *,
    certificate: Annotated[
        str | None, typer.Option("--id", help="Its id; by default the first name.")
    ] = None,
    key_algorithm: Annotated[
        str, typer.Option(help=", ".join(str(one) for one in KeyAlgorithm))
    ] = str(KeyAlgorithm.EC_P256),
    profile: Annotated[str | None, typer.Option(help="A profile that the CA advertises.")] = None,
    lifetime: Lifetime = "1h",
) -> None:
    """Want a certificate, and print a one-time enrolment token for its puller."""
    own: Context = context.obj
    seconds = parse_duration(lifetime)
    wanted = wanted_names(names, _CHALLENGE)
    identifier = certificate_id(wanted, names, certificate)
    algorithm = KeyAlgorithm(
        one_of(key_algorithm, [str(one) for one in KeyAlgorithm], "key algorithm")
    )
    if profile is not None and not (profile.isascii() and profile.isprintable()):
        raise ConfigurationError(f"{profile!r:.80} is no name of a profile.")
    settings = own.settings()
    maker = token_maker(settings)
    maker.check_lifetime(seconds)
    with own.store(settings) as store:
        first = not store.certificates(with_removed=True)
        store.add_certificate(
            identifier,
            wanted,
            directory_url=settings.acme.directory,
            now=own.now,
            key_algorithm=algorithm,
            challenge=_CHALLENGE,
            profile=profile or settings.acme.profile,
        )
        if first:
            say(CT_NOTE)
        say(f"Wanted: {identifier} ({', '.join(wanted)})")
        _print_token(own, settings, store, [identifier], seconds)


def token(
    context: typer.Context,
    certificates: Annotated[list[str], typer.Argument(help="Certificates it grants.")],
    lifetime: Lifetime = "1h",
) -> None:
    """Print another one-time enrolment token: for one more puller, or a new machine."""
    own: Context = context.obj
    seconds = parse_duration(lifetime)
    settings = own.settings()
    with own.store(settings) as store:
        wanted = [find_certificate(store, text) for text in certificates]
        _print_token(own, settings, store, wanted, seconds)


def _print_token(
    own: Context, settings: Settings, store: Store, certificates: list[str], seconds: int
) -> None:
    made = token_maker(settings).make(store, certificates, now=own.now, lifetime=seconds)
    minutes = seconds // 60
    say(f"Enrolment token: works once, for {minutes} min, and is not shown again.")
    emit(made.encode())
    say("Next, on the machine inside:  internal-puller enroll   (and paste the token)")


def renew(
    context: typer.Context,
    certificates: Annotated[list[str], typer.Argument(help="Certificates to renew now.")],
) -> None:
    """Want a new generation at once; the running agent orders it."""
    own: Context = context.obj
    with own.store(own.settings()) as store:
        wanted = [find_certificate(store, text) for text in certificates]
        for one in wanted:
            store.request_renewal(one, "an operator asked for it", now=own.now)
            say(f"{one}: a new generation is wanted.")


def remove(
    context: typer.Context,
    certificate: Annotated[str, typer.Argument(help="A certificate.")],
) -> None:
    """Order it no more and hand it out no more; what is installed inside stays there."""
    own: Context = context.obj
    with own.store(own.settings()) as store:
        found = find_certificate(store, certificate)
        store.remove_certificate(found, now=own.now)
        say(f"{found}: no more orders, no more bundles.")


def status(
    context: typer.Context,
    certificate: Annotated[str | None, typer.Argument(help="Only this one.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show for each certificate what is wanted, issued, pulled, installed and served."""
    own: Context = context.obj
    with own.store(own.settings()) as store:
        only = None if certificate is None else find_certificate(store, certificate)
        statuses = [one for one in store.status(own.now) if only in (None, one.certificate.id)]
    view = status_view(statuses, own.now)
    if as_json:
        emit_json(view)
    else:
        show_status(json.loads(json.dumps(view)))
