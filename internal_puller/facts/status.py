"""How every certificate stands: wanted, offered, pulled, installed, served are separate facts."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from internal_puller.facts.attention import attention
from internal_puller.facts.expiry import USUAL_LIFETIME
from internal_puller.facts.schedule import Schedule, schedule_of
from internal_puller.facts.standing import is_served
from internal_puller.facts.unended import tell_unended
from internal_puller.install.active import read_active
from internal_puller.install.layout import list_generations, set_aside
from internal_puller.install.probe import probe_target
from internal_puller.outbox.look import Look, matches
from internal_puller.settings.config import Settings
from internal_puller.settings.targets import Target, load_targets
from internal_puller.sources.agent.waiting import waits_for
from internal_puller.sources.direct.settings import load_direct
from internal_puller.sources.direct.status import DirectStatus, direct_status
from internal_puller.state.files import write_problems
from internal_puller.state.pending import PendingKeys
from internal_puller.state.progress import LastError, Progress, Standing
from internal_puller.state.state import Enrolment, StateDirectory
from internal_puller.trust import takes_only_own_keys
from shared.contract.errors import ConfigurationError


@dataclass(frozen=True)
class TargetStatus:
    """
    Attributes:
        installed: generation in place; ``None`` is none.
        not_after: unix seconds of what is in place; 0 is none.
        on_disk: generations that ``rollback`` could bring back.
        set_aside: generation to why it failed here.
        unended: what of an installation is not settled, in words; ``None``: all is.
        looks: what each address of each probe point answered; empty: nothing is probed.
        served_matches: all serve what is in place; ``None``: nothing is probed, or not known.
        error: why this target cannot be used; the other members say nothing then.
        standing: the verdict that stands against what is in place; ``None`` if none does.
    """

    directory: str
    installed: int | None
    not_after: int
    leaf_sha256: str
    on_disk: tuple[int, ...]
    set_aside: dict[int, str]
    unended: str | None
    looks: tuple[Look, ...]
    served_matches: bool | None
    error: str | None = None
    standing: Standing | None = None


@dataclass(frozen=True)
class CertificateStatus:
    """
    Attributes:
        origin: ``agent``, or ``direct`` where this machine asks the CA itself.
        names: wanted here, or granted where there is no target.
        offered: the newest generation that the agent had for us, or that the CA issued to us; 0 is
            none.
        key_origin: ``agent`` or ``puller``: who makes the key of the next generation.
        pending_keys: keys made here whose certificates are still to come.
        own_keys_only: by the targets' setting, or learned.
        withdrawn_at: unix seconds since when the agent does not offer it; 0: it does.
        target_removed: no target takes it any more, and one did.
        waits_for: in words, what the next generation waits for here; empty if nothing.
        pulled: the highest generation that passed every check (the floor); 0 is none.
        direct: how direct mode stands with it.
        lifetime: seconds that the newest one lives from end to end.
    """

    certificate: str
    names: tuple[str, ...]
    offered: int
    pulled: int
    receipt_waiting: bool
    error: LastError | None
    targets: tuple[TargetStatus, ...]
    origin: str = "agent"
    direct: DirectStatus | None = None
    lifetime: int = USUAL_LIFETIME
    key_origin: str = "agent"
    pending_keys: int = 0
    waits_for: str = ""
    own_keys_only: bool = False
    withdrawn_at: int = 0
    target_removed: bool = False


@dataclass(frozen=True)
class Status:
    """
    Attributes:
        relay_url, agent, puller: empty without an agent.
        attention: one sentence for each thing that a person should see to.
        state_problems: why what a pull learns could not be written down, in words.
        schedule: whether anything pulls again by itself.
        tls_check: how the agent's TLS was accepted last: ``pin``, ``roots`` or ``none``.
    """

    relay_url: str
    agent: str
    puller: str
    tls_check: str
    last_contact: int
    come_back_at: int
    clock_difference: int
    error: LastError | None
    certificates: tuple[CertificateStatus, ...] = field(default=())
    attention: tuple[str, ...] = ()
    state_problems: tuple[str, ...] = ()
    schedule: Schedule = field(default_factory=lambda: Schedule(None, ""))

    @property
    def unusable(self) -> list[TargetStatus]:
        """The targets that cannot be used."""
        return [one for each in self.certificates for one in each.targets if one.error]


def read_status(settings: Settings) -> Status:
    """Collect the facts; looks at the live servers, but not at the agent.

    Raises:
        ConfigurationError: not enrolled, or files that cannot be used.
    """
    state = StateDirectory.open(settings.state_directory)
    direct = load_direct(settings.direct_file)
    enrolment = state.require_enrolment() if direct is None else state.enrolment()
    progress = state.progress()
    targets = load_targets(settings.targets_file)
    own = {} if direct is None else direct_status(direct, settings)
    names = _certificates(enrolment, progress, targets) | {
        one.certificate: one.names for one in (direct.certificates if direct else ())
    }
    facts = Status(
        state_problems=tuple(write_problems(state.path)),
        relay_url=enrolment.relay_url if enrolment else "",
        agent=enrolment.agent.id if enrolment else "",
        puller=enrolment.puller if enrolment else "",
        tls_check=progress.tls_check,
        last_contact=progress.last_contact,
        come_back_at=progress.come_back_at,
        clock_difference=progress.clock_difference,
        error=progress.error,
        certificates=tuple(
            _certificate(name, wanted, state, progress, targets, direct=own.get(name))
            for name, wanted in sorted(names.items())
        ),
        schedule=schedule_of(settings),
    )
    return replace(facts, attention=tuple(attention(facts, settings, time.time())))


def _certificates(
    enrolment: Enrolment | None, progress: Progress, targets: tuple[Target, ...]
) -> dict[str, tuple[str, ...]]:
    """What was granted at enrolment counts until the agent was asked; then what it offers does."""
    names: dict[str, tuple[str, ...]] = dict.fromkeys(progress.certificates, ())
    if enrolment is not None:
        names |= {
            grant.certificate: grant.names
            for grant in enrolment.granted
            if not progress.version or grant.certificate in names
        }
    for target in targets:
        here = [one.names for one in targets if one.certificate == target.certificate]
        names[target.certificate] = tuple(sorted({name for each in here for name in each}))
    return names


def _certificate(
    certificate: str,
    names: tuple[str, ...],
    state: StateDirectory,
    progress: Progress,
    targets: tuple[Target, ...],
    *,
    direct: DirectStatus | None,
) -> CertificateStatus:
    floor = state.floors().get(certificate)
    known = progress.of(certificate)
    here = tuple(
        _target(one, progress.standing.get(str(one.directory)), state.path)
        for one in targets
        if one.certificate == certificate
    )
    pending = PendingKeys(state.path, certificate)
    installed = max((one.installed or 0 for one in here), default=0)
    return CertificateStatus(
        certificate=certificate,
        names=names,
        offered=direct.issued if direct else known.offered,
        pulled=floor.generation if floor else 0,
        receipt_waiting=known.receipt is not None,
        error=known.error if here and not _is_standing(known.error, progress) else None,
        targets=here,
        origin="direct" if direct else "agent",
        direct=direct,
        lifetime=known.lifetime or USUAL_LIFETIME,
        key_origin="puller" if direct else known.key_origin,
        pending_keys=len(pending.entries()),
        own_keys_only=takes_only_own_keys(
            [one.key_origin for one in targets if one.certificate == certificate],
            learned=certificate in state.own_keys(),
        ),
        withdrawn_at=known.withdrawn_at if here else 0,
        target_removed=not here and known.target != "none",
        waits_for=(
            waits_for(certificate, known, pending, installed=installed)
            if here and direct is None
            else ""
        ),
    )


def _is_standing(error: LastError | None, progress: Progress) -> bool:
    """Whether it is said of a target already: what is in place there has not failed."""
    return error is not None and any(one.what == error.what for one in progress.standing.values())


def _target(target: Target, standing: Standing | None, state: Path) -> TargetStatus:
    """One target that cannot be used hides none of the others."""
    try:
        return _usable(target, standing, state)
    except ConfigurationError as error:
        place = str(target.directory)
        return TargetStatus(place, None, 0, "", (), {}, None, (), None, error.what)


def _usable(target: Target, standing: Standing | None, state: Path) -> TargetStatus:
    active = read_active(target)
    looks = probe_target(target)
    served = is_served(matches(looks, active.leaf_sha256 if active else ""), standing)
    return TargetStatus(
        directory=str(target.directory),
        installed=active.generation if active else None,
        not_after=active.not_after if active else 0,
        leaf_sha256=active.leaf_sha256 if active else "",
        on_disk=list_generations(target),
        set_aside={number: one.what for number, one in set_aside(target).items()},
        unended=tell_unended(state, target),
        looks=looks,
        served_matches=served,
        standing=None if served else standing,  # the next pull sees it, too
    )
