"""``target change``: what is not given stays as it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Annotated, Any, Final

import typer

from internal_puller.commands.shared_options import taking
from internal_puller.commands.target_remove import matching
from internal_puller.commands.target_roots import check_root, with_kept_root
from internal_puller.commands.targets import (
    TargetOptions,
    parsed,
    show_changed,
)
from internal_puller.install.lock import installation_lock
from internal_puller.install.presets import check_target
from internal_puller.pull.turn import LOCK_WAIT
from internal_puller.settings.config import Settings, load_settings
from internal_puller.settings.targets import Target, load_targets, save_targets
from internal_puller.settings.targets_file import check_distinct
from internal_puller.state.state import StateDirectory
from shared.contract.errors import ConfigurationError
from shared.contract.identifiers import DnsName
from shared.host.terminal import emit

_DEFAULTS: Final = {one.name: one.default for one in fields(Target) if one.default is not MISSING}
_MEMBER_OF: Final = {"format": "formats", "root": "roots"}
"""Options that are called otherwise than what they set in a target."""
UNSET: Final = tuple(
    option
    for option in (one.name.replace("_", "-") for one in fields(TargetOptions))
    if option not in ("name", "directory")
)


@taking(TargetOptions)
def change(
    context: typer.Context,
    certificate: Annotated[
        str, typer.Argument(help="Certificate (all its targets), or one target's directory.")
    ],
    *,
    add_name: Annotated[
        list[str] | None, typer.Option(help="A name that the server needs too; may be repeated.")
    ] = None,
    remove_name: Annotated[
        list[str] | None, typer.Option(help="A name that it needs no more; may be repeated.")
    ] = None,
    unset: Annotated[
        list[str] | None,
        typer.Option(help=f"Set back to the default, repeated: {', '.join(UNSET)}."),
    ] = None,
    options: TargetOptions,
) -> None:
    """Change a target. What is not given stays as it is; see --unset for what is to go.

    A target that has had a key made on this machine takes no other, so that nobody outside can
    bring one in: --key-origin any is the word that it may, once, go back to the agent's.
    """
    settings = load_settings(context.obj)
    targets = load_targets(settings.targets_file)
    mine = matching(targets, certificate)
    others = [one for one in targets if one not in mine]
    if not (
        unset or add_name or remove_name or any(one is not None for one in vars(options).values())
    ):
        raise ConfigurationError(
            "There is nothing to change.", do="See internal-puller target change --help."
        )
    changed = {}
    for one in mine:
        names = _names(one, options.names(), parsed(add_name), parsed(remove_name))
        members = _with_defaults(options.members(names), unset or ())
        new = _with_names(one, names, looked_at="probe" in members)
        changed[one.directory] = dataclasses.replace(new, **members)
    check_distinct((*others, *changed.values()))
    for one in mine:
        _check_changed(settings, one, changed[one.directory])
    if options.root is not None:
        changed = {
            directory: with_kept_root(settings, one, others) for directory, one in changed.items()
        }
    save_targets(settings.targets_file, [changed.get(one.directory, one) for one in targets])
    told = [show_changed(one, changed[one.directory]) for one in mine]
    if options.key_origin == "any" or "key-origin" in (unset or ()):
        told.append(_take_other_keys_again(settings, {one.certificate for one in mine}))
    if any(told):
        away = any(one.ssh is not None for one in changed.values())
        emit("Next: internal-puller doctor" if away else "Next: internal-puller pull")


def _with_defaults(given: Mapping[str, Any], unset: Sequence[str]) -> dict[str, Any]:
    """Return what is given, and the default of each option that is unset."""
    members = dict(given)
    for option in unset:
        if option not in UNSET:
            raise ConfigurationError(f"--unset {option!r:.60} is none of {', '.join(UNSET)}.")
        member = _MEMBER_OF.get(option, option.replace("-", "_"))
        if member in given:
            raise ConfigurationError(f"--{option} and --unset {option} exclude each other.")
        members[member] = _DEFAULTS[member]
    return members


def _check_changed(settings: Settings, old: Target, new: Target) -> None:
    """Find out whether it can be used, if anything but names and keys is another thing now."""
    quiet: dict[str, Any] = {
        "names": new.names,
        "key_origin": new.key_origin,
        "key_algorithm": new.key_algorithm,
    }
    if dataclasses.replace(old, **quiet) == dataclasses.replace(new, probe=old.probe):
        return
    check_root(settings, new)
    check_target(new)


def _take_other_keys_again(settings: Settings, certificates: set[str]) -> bool:
    """Last, so that whatever ends the command before leaves the stricter rule.

    Returns:
        Whether the rule held for one of them.
    """
    if not settings.state_directory.exists():
        return False
    state = StateDirectory.open(settings.state_directory)
    with installation_lock(settings.lock, wait=LOCK_WAIT):
        held = sorted(certificates & state.own_keys())
        for certificate in held:
            state.forget_own_keys(certificate)
            emit(f"{certificate}: the agent's keys are taken again.")
    return bool(held)


def _names(
    one: Target, all_of_them: tuple[str, ...], more: tuple[str, ...], fewer: tuple[str, ...]
) -> tuple[str, ...]:
    """Return the names that a target needs from now on."""
    if all_of_them and (more or fewer):
        raise ConfigurationError(
            "--name gives all names of the target; --add-name and --remove-name do not go with it."
        )
    unknown = [name for name in fewer if name not in one.names]
    if unknown:
        raise ConfigurationError(
            f"{unknown[0]} is no name of the target in {one.directory}; it needs "
            f"{', '.join(one.names):.500}."
        )
    names = all_of_them or (*one.names, *more)
    found = tuple(dict.fromkeys(name for name in names if name not in fewer))
    if not found:
        raise ConfigurationError(f"Target {one.certificate}: names is empty.")
    return found


def _with_names(one: Target, names: tuple[str, ...], *, looked_at: bool) -> Target:
    """Return the target with other names; points that look for a name that goes, go with it.

    Args:
        looked_at: other points are given with them.
    """
    gone = {DnsName(name).probe_name for name in one.names if name not in names}
    points = one.probe and tuple(point for point in one.probe if point.sni not in gone)
    if one.probe and not points and not looked_at:
        raise ConfigurationError(
            f"Nothing would be probed any more in {one.directory}: every point of it looks for a "
            "name that goes.",
            do="Say where to look from now on, in the same command: --probe ADDRESS:PORT/NAME.",
        )
    return dataclasses.replace(one, names=names, probe=points)
