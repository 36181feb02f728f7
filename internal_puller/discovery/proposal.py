"""What to type and what to change so that a site gets its certificate from here."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from internal_puller.discovery.site import Setting, Site
from internal_puller.settings.presets.catalogue import known
from internal_puller.settings.targets import Target
from shared.contract.errors import NameRefused
from shared.contract.identifiers import DnsName
from shared.contract.wire import Grant


@dataclass(frozen=True, slots=True)
class Change:
    """A line to change."""

    file: Path
    line: int
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """
    Attributes:
        state: ``ours`` (it reads a target of ours already), ``ready`` (a certificate is granted),
            ``not granted``, ``no public name``.
        command: to type here; empty where there is nothing to type, as for a target that is there.
        ask: to type on the VM first; empty where that is not needed.
    """

    site: Site
    state: str
    command: str
    ask: str
    changes: tuple[Change, ...]


def propose(
    sites: Sequence[Site], targets: Sequence[Target], granted: Sequence[Grant], base: Path
) -> list[Proposal]:
    """Return a proposal for each site.

    Args:
        base: the directory below which targets are made.
    """
    return [_propose(site, targets, granted, base) for site in sites]


def _propose(
    site: Site, targets: Sequence[Target], granted: Sequence[Grant], base: Path
) -> Proposal:
    for target in targets:
        if Path(site.certificate.value).is_relative_to(target.directory):
            return Proposal(site, "ours", "", "", ())
    names = list(_public(site.names))
    if not names:
        return Proposal(site, "no public name", "", "", ())
    grant = next((one for one in granted if _covers(one, names)), None)
    certificate = names[0].replace("*.", "_wildcard.") if grant is None else grant.certificate
    directory = base / "tls" / certificate
    there = next((one for one in targets if one.directory == directory), None)
    reads_it = there is not None and site.preset in {one.name for one in there.presets}
    if there is not None and not reads_it:  # another server's: it is left alone
        there, directory = None, directory.with_name(f"{certificate}-{site.preset}")
    if there is not None:
        words = _words_of_change(there, names)
    else:
        words = ["internal-puller", "target", "add", certificate, "--preset", site.preset]
        if directory.name != certificate:
            words += ["--directory", str(directory)]
        if grant is None or set(grant.names) != set(names):
            words += [word for name in names for word in ("--name", name)]
        if site.points != (("127.0.0.1", 443),):
            first = DnsName(names[0]).probe_name
            for address, port in site.points:
                words += ["--probe", f"{address}:{port}/{first}"]
    ask = "" if grant is not None else shlex.join(["external-agent", "add", *names])
    state = "ready" if grant is not None else "not granted"
    changes = tuple(_changes(site, directory / "current"))
    return Proposal(site, state, shlex.join(words), ask, changes)


def _words_of_change(there: Target, names: Sequence[str]) -> list[str]:
    """What the target lacks that is there already, and that this site is to read, too."""
    lacks = [word for name in names if name not in there.names for word in ("--add-name", name)]
    command = ["internal-puller", "target", "change", str(there.directory)]
    return [*command, *lacks] if lacks else []


def _public(names: Sequence[str]) -> Iterator[str]:
    """Names that a CA could sign; what is a pattern, or internal only, is left out."""
    for name in names:
        try:
            yield str(DnsName.parse(f"*{name}" if name.startswith(".") else name))
        except NameRefused:
            continue


def _covers(grant: Grant, names: Sequence[str]) -> bool:
    offered = [DnsName(one) for one in grant.names]
    return all(any(one.covers(DnsName(name)) for one in offered) for name in names)


def _changes(site: Site, current: Path) -> Iterator[Change]:
    preset = known(site.preset)
    one_file = site.key is None and "combined" in preset.formats
    yield _change(site.certificate, current / ("combined.pem" if one_file else "fullchain.pem"))
    if site.key is not None:
        yield _change(site.key, current / "privkey.pem")
    elif not one_file:
        lines = preset.hints[0].shown(current)
        at, new = site.certificate, next(line for line in lines if "privkey.pem" in line)
        yield Change(at.file, at.line, "(a line below)", new)


def _change(setting: Setting, path: Path) -> Change:
    old = f"{setting.directive} {setting.value}"
    return Change(setting.file, setting.line, old, f"{setting.directive} {path}")
