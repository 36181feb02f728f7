"""One target while its group is being installed: what goes where, and what came of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from internal_puller.install.formats import is_secret
from internal_puller.install.judge import Leaf
from internal_puller.install.layout import RECORD, generation_of
from internal_puller.outbox.outcome import Outcome
from internal_puller.outbox.verdict import BACK, Verdict
from shared.contract.errors import ConfigurationError, StageFailed

if TYPE_CHECKING:
    from collections.abc import Collection

    from internal_puller.install.generations import Generations
    from internal_puller.install.presets import Plan
    from internal_puller.install.server import Server
    from internal_puller.outbox.look import Look
    from shared.contract.errors import RelayError

_DAMAGED = Leaf("", 0, 0)
"""Of a generation whose record cannot be read: nothing shows it, and it is not gone back to."""

_NOWHERE = ""
"""This run does not know where the link points, or not durably."""


@dataclass
class Member:
    """
    Attributes:
        generations: of its target, held open.
        to, previous: names of the generation that is put in place, and of the one before.
        servers: that read its files.
        verdict: the judge's, once there is one.
        detail: how the step ended that decided, in words.
        speaks: the server that the verdict is about; ``None`` before there is one.
        before, looks: what its probe points showed before anything was changed, and last.
        fault: what kept a link of it from being switched, if so.
        alone: it is not installed together with others.
        is_there: it is in place already, and a look may be enough.
        kept: an earlier run left it in place and did not see it served; it may still go back.
        stood: the verdict of that run, if known.
        touched: this run switched it, if only for a while.
    """

    plan: Plan
    generations: Generations
    to: str
    previous: str | None
    servers: tuple[Server, ...] = ()
    verdict: Verdict | None = None
    detail: str = ""
    speaks: Server | None = None
    before: tuple[Look, ...] = ()
    looks: tuple[Look, ...] = ()
    fault: RelayError | None = None
    alone: bool = False
    is_there: bool = False
    kept: bool = False
    stood: Verdict | None = None
    touched: bool = False
    _placed: str | None = _NOWHERE

    @property
    def directory(self) -> str:
        """Where its target is: by this it is named in the note."""
        return str(self.plan.target.directory)

    @property
    def changes(self) -> bool:
        """Whether there is something to go back to: another generation, or none."""
        return self.to != self.previous

    def is_read_by(self, servers: Collection[str]) -> bool:
        """Tell whether one of these servers, by name, reads its files."""
        return any(one.name in servers for one in self.servers)

    @property
    def is_back(self) -> bool:
        return self.verdict in BACK

    @property
    def generation(self) -> int:
        return generation_of(self.to)

    @property
    def wanted(self) -> str | None:
        """Return the name that its verdict asks for."""
        return self.previous if self.is_back else self.to

    @property
    def in_place(self) -> int:
        """The generation in place now, as this run put it; 0 for none."""
        name = self.to if self._placed == _NOWHERE else self._placed
        return generation_of(name) if name else 0

    @property
    def goes_back_in_time(self) -> bool:
        """Whether an operator wants an earlier generation: no server's agent offers one."""
        return self.previous is not None and self.generation < generation_of(self.previous)

    @property
    def is_new_generation(self) -> bool:
        """Whether it is not just written anew, in other formats or for another owner."""
        return self.previous is None or self.generation != generation_of(self.previous)

    # --- its files ---------------------------------------------------------------------------

    def upload(self, name: str) -> None:
        """Have a generation where the server is. Raises ``StageFailed``."""
        if self.plan.remote is None:
            return
        from internal_puller.install.remote import RemoteFile

        accounts = self.plan.accounts
        files = {
            file: RemoteFile(
                content, (accounts.secret if is_secret(file) else accounts.public).mode
            )
            for file, content in self.generations.read(name).items()
        }
        self.plan.remote.upload(name, files)

    def put(self, name: str | None) -> None:
        """Let ``current`` point to a generation, here and where the server is.

        Durably, unless this run did it last. Raises ``StageFailed``.
        """
        if self._placed == name:
            return
        if name is not None and name not in self.generations.names():
            raise StageFailed(
                f"{self.plan.target.certificate}: generation {generation_of(name)} is gone from "
                f"{self.directory}."
            )
        self._placed = _NOWHERE
        self.touched = self.touched or self.generations.active() != name
        self.generations.activate(name)
        if self.plan.remote is not None:
            if name is not None:
                self.upload(name)
            self.plan.remote.activate(name, self.generations.names())
        self._placed = name

    def leaf(self, name: str) -> Leaf:
        """Return the leaf of a generation of ours from its record."""
        try:
            record = self._record(name)
            return Leaf(
                str(record["leaf_sha256"]), int(record["not_before"]), int(record["not_after"])
            )
        except (StageFailed, KeyError, TypeError, ValueError):
            return _DAMAGED

    def kind(self, name: str) -> str | None:
        """Return the kind of key of a generation; ``None`` if its record does not say."""
        try:
            return str(self._record(name)["key_kind"])
        except (StageFailed, KeyError, TypeError, ValueError):
            return None

    def _record(self, name: str) -> dict[str, Any]:
        return dict(json.loads(self.generations.read(name, RECORD)[RECORD]))

    @property
    def new(self) -> Leaf:
        return self.leaf(self.to)

    @property
    def old(self) -> Leaf | None:
        return None if self.previous is None else self.leaf(self.previous)

    # --- what came of it ---------------------------------------------------------------------

    def outcome(self, error: RelayError | None) -> Outcome:
        """Return the record of it."""
        try:
            name = self.generations.active()
        except ConfigurationError:
            name = None
        try:
            digest = str(self._record(self.to)["manifest_digest"])
        except (StageFailed, KeyError, TypeError, ValueError):
            digest = ""
        return Outcome(
            certificate=self.plan.target.certificate,
            generation=self.generation,
            verdict=self.verdict,
            error=error,
            changed=self.touched,
            directory=self.directory,
            active=None if name is None else generation_of(name),
            digest=digest,
            not_after=self.new.not_after,
            before=self.before,
            looks=self.looks,
        )
