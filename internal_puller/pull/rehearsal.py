"""The second half of a rehearsal: verified, staged and tested beside what is live, and removed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from internal_puller import trust
from internal_puller.install.formats import render
from internal_puller.install.generations import Generations
from internal_puller.install.lock import installation_lock
from internal_puller.install.material import Material
from internal_puller.install.presets import resolve
from internal_puller.install.probe import kind_in_place, look_all
from internal_puller.install.roots import roots_in
from internal_puller.outbox.look import TROUBLE_WORDS, Answer, Look
from internal_puller.settings.config import Settings
from internal_puller.settings.targets import Target, load_targets
from internal_puller.sources.agent.client import RelayClient
from internal_puller.sources.agent.contact import connect
from internal_puller.state.state import Enrolment, StateDirectory
from shared.contract.bundle import REHEARSAL_TYPE, Manifest, parse_envelope
from shared.contract.errors import (
    ConfigTestFailed,
    ConfigurationError,
    PolicyError,
    RelayError,
    RequestRefused,
)
from shared.contract.rehearsal import RehearsalAnswer, Step
from shared.contract.x509 import load_chain

POLL_SECONDS = 1.0
LONGEST = 900.0
_LOCK_WAIT = 60.0
Told = Callable[[Step], None]


def rehearse(
    settings: Settings,
    certificate: str,
    told: Told,
    *,
    roots: Path | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Go the whole way with a staging CA, down to the server's configuration test.

    Args:
        told: called with each step when it is done.
        roots: PEM file of the staging CA's roots; without it the links of the chain are verified,
            and its end is taken as it comes.

    Raises:
        ConfigurationError, TransportError, BundleError, InstallError: the step that failed.
    """
    state = StateDirectory.open(settings.state_directory)
    state.require_enrolment()
    targets = [one for one in load_targets(settings.targets_file) if one.certificate == certificate]
    if not targets:
        raise PolicyError(
            f"No target here takes {certificate}.",
            do=f"internal-puller target add {certificate} --preset nginx",
        )
    client = connect(settings, state)
    try:
        envelope = _order(client, certificate, told, sleep)
    finally:
        client.close()
    accepted = _accept(envelope, state, certificate, targets, roots=roots)
    told(Step("verified", True, _verified(roots)))
    with installation_lock(settings.lock, wait=_LOCK_WAIT):
        for target in targets:
            _stage(accepted, target, told)


def _order(
    client: RelayClient, certificate: str, told: Told, sleep: Callable[[float], None]
) -> bytes:
    """Have the agent order it, and tell each of its steps once."""
    try:
        answer = client.begin_rehearsal(certificate)
    except RequestRefused as error:
        if error.problem_type != "not-found":
            raise
        raise ConfigurationError(
            "The agent is of an older release, which rehearses nothing.", do="Upgrade it."
        ) from error
    seen, end = 0, time.monotonic() + LONGEST
    while True:
        for step in answer.state.steps[seen:]:
            if not step.good:
                raise RequestRefused(f"At the agent: {step.what}", do=step.do)
            told(step)
        seen = len(answer.state.steps)
        if answer.state.outcome != "running":
            return _bundle(answer)
        if time.monotonic() > end:
            raise RequestRefused("The agent's part did not end in time.", do="Look at its log.")
        sleep(POLL_SECONDS)
        answer = client.rehearsal(certificate)


def _bundle(answer: RehearsalAnswer) -> bytes:
    if answer.envelope is None:
        raise RequestRefused("The agent's part ended without a bundle.")
    return answer.envelope


def _accept(
    envelope: bytes,
    state: StateDirectory,
    certificate: str,
    targets: Sequence[Target],
    *,
    roots: Path | None,
) -> trust.Accepted:
    """Make every check of an installation but three: floor, key origin, and the public roots.

    Nothing of a rehearsal may become a floor; its key was made by the agent for the purpose.
    """
    enrolment = state.require_enrolment()
    names = tuple(sorted({name for one in targets for name in one.names}))
    anchors = roots_in(roots) if roots is not None else _own_end(envelope, enrolment)
    wanted = trust.Wanted(certificate, names, False, (anchors,))
    return trust.accept(
        envelope,
        agent=enrolment.agent,
        identity=state.identity(),
        wanted=wanted,
        floor=None,
        pending_keys={},
        now=time.time(),
        payload_type=REHEARSAL_TYPE,
    )


def _own_end(envelope: bytes, enrolment: Enrolment) -> tuple[trust.Certificate, ...]:
    """Return the last certificate of the chain, as what the agent signed gives it."""
    payload = parse_envelope(envelope, payload_type=REHEARSAL_TYPE).open(enrolment.agent)
    return (load_chain(Manifest.decode(payload).chain)[-1],)


def _verified(roots: Path | None) -> str:
    if roots is not None:
        return f"Every check of an installation passed; the chain ends in {roots}."
    return (
        "Every check of an installation passed; of the staging CA's root nothing is known here, so "
        "the chain was verified up to its own end."
    )


def _stage(accepted: trust.Accepted, target: Target, told: Told) -> None:
    plan = resolve(target)
    material = Material(
        certificate=target.certificate,
        generation=accepted.manifest.generation,
        manifest_digest=accepted.digest,
        chain_pem=accepted.chain_pem,
        key_pem=accepted.key_pem,
    )
    material.check_pair()
    files = render(material, plan.rendering)
    with Generations(target) as generations:
        generations.try_out(files, plan.accounts, plan.password)
    there = ""
    if plan.remote is not None:
        plan.remote.try_out()
        there = f" {plan.remote} takes files below {plan.remote.directory}."
    what = f"{len(files)} files were written beside {target.directory}, and removed.{there}"
    told(Step("staged", True, what))
    if plan.test_command:
        command = " ".join(plan.test_command)
        result = plan.run_step("test", 0)
        if not result.ok:
            raise ConfigTestFailed(f"{target.certificate}: {command} {result.describe()}.")
        told(Step("configuration", True, f"{command} finds nothing wrong."))
    else:
        told(Step("configuration", True, "This target has no test of a configuration."))
    if plan.reload_command:
        where = "is there" if plan.remote is None else f"is for {plan.remote}"
        what = f"{' '.join(plan.reload_command)} {where}; it was not run."
        told(Step("reload", True, what))
    for one in look_all(plan.probe, target.probe_timeout, kind_in_place(target)):
        told(Step("served", True, _as_before(one)))


def _as_before(one: Look) -> str:
    """Say what is served, which a rehearsal leaves as it is."""
    if one.answer is Answer.NOT_KNOWN:
        return f"What {one.spot} serves cannot be seen from here: {one.why}."
    trouble = f" Mind: {TROUBLE_WORDS[one.trouble]}." if one.trouble else ""
    if one.leaf_sha256 is None:
        return f"{one.spot} serves no certificate, as before: {one.why}.{trouble}"
    return f"{one.spot} serves {one.leaf_sha256[:16]}, as before.{trouble}"


def failed(error: RelayError) -> Step:
    """Return the step that an error is."""
    return Step("failed", False, error.what, error.do)
