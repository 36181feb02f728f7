"""``add``, ``token``, ``renew``, ``change``, ``remove``: what concerns certificates."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from external_agent.commands.context import Context, one_of, parse_duration, token_maker
from external_agent.commands.lookup import find_certificate
from external_agent.facts.policy import (
    CHALLENGES,
    certificate_id,
    changed_names,
    require_ordinary,
    wanted_challenge,
    wanted_names,
)
from external_agent.relay.enrolment import TokenMaker
from shared.contract.bundle import KeyOrigin
from shared.contract.errors import ConfigurationError, PolicyError
from shared.contract.key_policy import KeyAlgorithm
from shared.host.terminal import emit, say

if TYPE_CHECKING:
    from external_agent.commands.client import Api

CT_NOTE = (
    "Note: the name will show in public CT logs; a wildcard by a DNS challenge hides the host "
    "label."
)
_ALGORITHMS = ", ".join(str(one) for one in KeyAlgorithm)
Cas = Annotated[
    list[str] | None,
    typer.Option(
        "--ca",
        help="A CA of the settings, by name or directory URL; once more: if the first fails.",
        show_default=False,
    ),
]
Lifetime = Annotated[str, typer.Option("--lifetime", help="Of the token: 30m, 1h … at most 24h.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]


def add(
    context: typer.Context,
    names: Annotated[list[str], typer.Argument(help="DNS names of one certificate.")],
    *,
    certificate: Annotated[
        str | None, typer.Option("--id", help="Its id; by default the first name.")
    ] = None,
    key_origin: Annotated[
        str, typer.Option(help="Where the private key is made: agent (sealed) or puller.")
    ] = "agent",
    key_algorithm: Annotated[str, typer.Option(help=_ALGORITHMS)] = str(KeyAlgorithm.EC_P256),
    challenge: Annotated[str, typer.Option(help=", ".join(CHALLENGES))] = "http-01",
    profile: Annotated[str | None, typer.Option(help="A profile that the CA advertises.")] = None,
    ca: Cas = None,
    lifetime: Lifetime = "1h",
) -> None:
    """Want a certificate, and print a one-time enrolment token for its puller."""
    own: Context = context.obj
    seconds = parse_duration(lifetime)
    wanted = wanted_names(names, challenge)
    identifier = certificate_id(wanted, names, certificate)
    origin, algorithm = _origin(key_origin), _algorithm(key_algorithm)
    assert origin is not None
    settings = own.settings()
    cas = tuple(dict.fromkeys(map(settings.acme.directory_of, ca or [settings.acme.directory])))
    token_maker(settings).check_lifetime(seconds)  # before anything is changed
    body = {
        "names": list(wanted),
        "certificate": identifier,
        "cas": list(cas),
        "key_origin": origin,
        "key_algorithm": str(algorithm),
        "challenge": challenge,
        "profile": _profile(profile or settings.acme.at(cas[0]).profile),
    }
    with own.api() as api:
        first = not api.get("events", kind="certificate-added", limit=1)["items"]
        api.post("certificates", body=body)
        if first:
            say(CT_NOTE)
        say(f"Wanted: {identifier} ({', '.join(wanted)})")
        if challenge == "dns-persist-01":
            say(f"First set its TXT record: external-agent dns-persist record {shlex.join(names)}")
        _print_token(api, [identifier], seconds)


def _origin(text: str | None) -> KeyOrigin | None:
    if text is None:
        return None
    return cast(KeyOrigin, one_of(text, ("agent", "puller"), "key origin"))


def _algorithm(text: str) -> KeyAlgorithm:
    return KeyAlgorithm(one_of(text, [str(one) for one in KeyAlgorithm], "key algorithm"))


def _profile(text: str | None) -> str | None:
    if text is not None and not (text.isascii() and text.isprintable()):
        raise ConfigurationError(f"{text!r:.80} is no name of a profile.")
    return text


def token(
    context: typer.Context,
    certificates: Annotated[list[str], typer.Argument(help="Certificates it grants.")],
    lifetime: Lifetime = "1h",
) -> None:
    """Print another one-time enrolment token: for one more puller, or a new machine."""
    own: Context = context.obj
    seconds = parse_duration(lifetime)
    TokenMaker.check_lifetime(seconds)
    with own.api() as api:
        wanted = [find_certificate(api, text) for text in certificates]
        _print_token(api, wanted, seconds)


def _print_token(api: Api, certificates: list[str], seconds: int) -> None:
    made = api.post("enrolment-tokens", body={"certificates": certificates, "lifetime": seconds})
    minutes = seconds // 60
    say(f"Enrolment token: works once, for {minutes} min, and is not shown again.")
    emit(made["token"])
    say("Next, on the machine inside:  internal-puller enroll   (and paste the token)")


def renew(
    context: typer.Context,
    certificates: Annotated[
        list[str] | None, typer.Argument(help="Certificates to renew now.", show_default=False)
    ] = None,
    *,
    everything: Annotated[
        bool, typer.Option("--all", help="Every certificate; needs --now, too.")
    ] = False,
    at_once: Annotated[
        bool, typer.Option("--now", help="Yes, all of them at once: for a wave of revocations.")
    ] = False,
) -> None:
    """Want new generations at once; the running agent orders them.

    Pauses after errors end, but for those that the CA asked for.
    """
    own: Context = context.obj
    names = certificates or []
    if everything == bool(names):
        raise ConfigurationError(
            "Name the certificates to renew, or say --all.",
            do="external-agent renew NAME, or external-agent renew --all --now.",
        )
    with own.api() as api:
        if everything:
            _renew_all(api, at_once)
            return
        wanted = [find_certificate(api, text) for text in names]
        for one in wanted:
            api.post("certificates", one, "renew")
            say(f"{one}: a new generation is wanted.")


def _renew_all(api: Api, at_once: bool) -> None:
    if not at_once:
        count = sum(1 for _ in api.pages("certificates", limit=200))
        raise PolicyError(
            f"This would order {count} certificates at once, and CAs limit orders.",
            do="If that is meant: external-agent renew --all --now.",
        )
    found = api.post("renewals", body={"certificates": "all"})["certificates"]
    for one in found:
        say(f"{one}: a new generation is wanted.")
    say(f"{len(found)} certificates; external-agent status shows how far they are.")


def change(
    context: typer.Context,
    certificate: Annotated[str, typer.Argument(help="A certificate.")],
    *,
    add_name: Annotated[list[str] | None, typer.Option(help="One more name.")] = None,
    remove_name: Annotated[list[str] | None, typer.Option(help="One name less.")] = None,
    challenge: Annotated[str | None, typer.Option(help=", ".join(CHALLENGES))] = None,
    key_origin: Annotated[
        str | None,
        typer.Option(help="Where the next private key is made: agent (sealed) or puller."),
    ] = None,
    key_algorithm: Annotated[str | None, typer.Option(help=_ALGORITHMS)] = None,
    profile: Annotated[
        str | None, typer.Option(help="A profile that the CA advertises; none: no profile.")
    ] = None,
    ca: Cas = None,
) -> None:
    """Change what is wanted of a certificate; it gets a new generation, the old one serves on."""
    own: Context = context.obj
    settings = own.settings()
    with own.api() as api:
        found = find_certificate(api, certificate)
        require_ordinary(found)
        before = api.get("certificates", found)
        wanted = wanted_challenge(challenge or before["challenge"])
        names = changed_names(before["names"], add_name or (), remove_name or (), wanted)
        changes = {
            "names": None if names == tuple(before["names"]) else list(names),
            "challenge": challenge,
            "key_origin": _origin(key_origin),
            "key_algorithm": None if key_algorithm is None else str(_algorithm(key_algorithm)),
            "profile": None if profile is None else _profile("" if profile == "none" else profile),
            "cas": list(dict.fromkeys(map(settings.acme.directory_of, ca or ()))) or None,
        }
        given = {name: value for name, value in changes.items() if value is not None}
        if not given:
            raise ConfigurationError(
                "There is nothing to change.", do="See external-agent change --help."
            )
        after = api.patch("certificates", found, body=given)
    _say_changed(found, before, after)


def _say_changed(certificate: str, before: dict[str, Any], after: dict[str, Any]) -> None:
    wishes = ("names", "challenge", "key_origin", "key_algorithm", "profile", "cas")
    if all(before[name] == after[name] for name in wishes):
        say(f"{certificate}: it is so already.")
        return
    say(f"{certificate}: changed; a new generation is wanted.")
    _say_names(certificate, sorted(set(before["names"]) - set(after["names"])))
    if before["key_origin"] != after["key_origin"]:
        _say_origin(certificate, after["key_origin"])


def _say_names(certificate: str, gone: list[str]) -> None:
    if gone:
        say(
            f"Without {', '.join(gone)}: a puller whose target still names that refuses the new "
            f"one. On that machine:  internal-puller target change {certificate} "
            + " ".join(f"--remove-name {name}" for name in gone)
        )


def _say_origin(certificate: str, origin: str) -> None:
    if origin == "puller":
        say("Its puller makes the key and leaves a CSR with its next pull; nothing more to do.")
    else:
        say(
            "Its puller takes no key made here before it is told so, on that machine:  "
            f"internal-puller target change {certificate} --key-origin any"
        )


def remove(
    context: typer.Context,
    certificate: Annotated[str, typer.Argument(help="A certificate.")],
) -> None:
    """Order it no more and hand it out no more; what is installed inside stays there."""
    own: Context = context.obj
    with own.api() as api:
        found = find_certificate(api, certificate)
        require_ordinary(found)
        api.delete("certificates", found)
        say(f"{found}: no more orders, no more bundles.")
