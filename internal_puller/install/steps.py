"""The steps of an installation, in the one order that a kill between any two of them leaves whole.

====  =============================================  =========================================
step  durable                                        after a kill here
====  =============================================  =========================================
1     the generations, no note (``Engine``)          staged again, found whole
2     what was before is looked at, and noted        all new in place, and on from 3
3     one link after another                         all new in place, and on from 3
4     the test; halving moves links                  again from 3
5     verdicts of the test, *before* their links     links follow verdicts, never forward again
6     one reload                                     one more
7     dead or worse: all verdicts in one write,      links follow them; what ran before and is
      then links, then reload or start               dead is started (``going_back``)
8     set aside, prune, and the note goes last       settled
====  =============================================  =========================================
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from internal_puller.install import notes
from internal_puller.install.judge import Case, Reload, Test, is_dead, judge
from internal_puller.install.layout import SetAside, generation_of
from internal_puller.install.member import Member
from internal_puller.install.mounts import Mounted
from internal_puller.install.server import STOPPED, Running, Server
from internal_puller.install.servers import Servers
from internal_puller.install.sight import Awaited, Sight
from internal_puller.install.words import About, error_of
from internal_puller.outbox.look import Answer, Look
from internal_puller.outbox.outcome import Outcome
from internal_puller.outbox.verdict import Verdict
from shared.contract.errors import RelayError, StageFailed

OPERATOR: Final = "operator/rolled-back"
BY_SERVER: Final = frozenset({Verdict.BACK_BY_LEAF, Verdict.BACK_BY_DEATH, Verdict.BACK_UNSEEN})
"""Given after a reload: going back is not done before the server has seen it."""
_WORST_FIRST: Final = (
    Verdict.BACK_BY_DEATH,
    Verdict.BACK_BY_LEAF,
    Verdict.WORSE_AND_KEPT,
    Verdict.RELOAD_FAILED,
    Verdict.NOT_RUNNING,
    Verdict.NOT_TAKEN_UP,
    Verdict.ANOTHER_SERVER,
    Verdict.SEEN_BEFORE,
    Verdict.CANNOT_BE_SEEN,
    Verdict.SERVED,
    Verdict.IN_PLACE,
)
_NO_SERVER: Final = Server("the server", "", (), ())


@dataclass
class Steps:
    """One installation of some members of a group.

    Attributes:
        state: the state directory.
        name: of the note.
        boot_id: of the servers' machine when *before* was looked at.
        resumed: an earlier run began it.
        others: what the same note says of members that are not worked on now, and keeps.
        now: unix seconds.
        mounted: which generations of this machine's targets are mounted somewhere; they stay.
        left_out: members that were taken out on the way, each with its ``fault``.
    """

    state: Path
    name: str
    members: list[Member]
    servers: Servers
    sight: Sight
    now: Callable[[], float]
    boot_id: str = ""
    resumed: bool = False
    others: notes.Note | None = None
    mounted: Callable[[], Mounted] | None = None
    left_out: list[Member] = field(default_factory=list)
    _was_told: bool = False
    _booted: str = ""

    # --- 2: before ---------------------------------------------------------------------------

    def begin(self, killed: Collection[str] = ()) -> None:
        """Look at what is, and note it. Raises ``StageFailed``.

        Args:
            killed: names of servers that ran before a reload of an earlier run, as that noted; one
                that does not run now is ours to start.
        """
        self.boot_id = self.servers.boot_id()
        before = [one.kind(one.previous or one.to) for one in self.members]
        found = self.sight.look([one.plan for one in self.members], before)
        for member, looks in zip(self.members, found, strict=True):
            member.before = looks
        self.servers.look_around(killed)  # afterwards: a look starts what waits behind a socket
        self.write()

    def take_up(self) -> None:
        """Go on with what an earlier run noted; after a boot how servers stand is seen anew."""
        boot_id = self.servers.boot_id()
        if boot_id and self.boot_id and boot_id != self.boot_id:
            self._booted = boot_id  # noted once what the boot could not start was started
            self.servers.look_after_boot()

    def write(self) -> None:
        """Note the members as they are now, in one durable write."""
        noted = {
            one.directory: notes.Noted(
                one.plan.target.certificate, one.to, one.previous, one.verdict
            )
            for one in self.members
        }
        points = {one.directory: one.before for one in self.members}
        if self.others is not None:
            noted, points = {**self.others.members, **noted}, {**self.others.points, **points}
        notes.write_or_drop(
            self.state,
            notes.Note(
                self.name,
                self.boot_id,
                noted,
                self.servers.ran,
                points,
                frozenset(self.servers.killed),
            ),
        )

    # --- 3 to 7 ------------------------------------------------------------------------------

    def carry_out(self) -> list[Outcome]:
        """Bring what ``begin`` or ``take_up`` noted to a verdict for each member."""
        from internal_puller.install.going_back import go_back
        from internal_puller.install.sifting import sift_servers

        try:
            open_ones = [one for one in self.members if one.verdict not in BY_SERVER]
            if any(one.changes for one in open_ones) or len(open_ones) == len(self.members):
                self.put_all()
                sift_servers(self)
                self.reload()
                self.judge()
            if any(one.verdict in BY_SERVER for one in self.members):
                go_back(self)
        except RelayError as fault:
            return self.break_off(fault)
        return self._settle()

    def put_all(self) -> None:
        """Switch every link to where its member's verdict wants it; with none, to the new one.

        A member that its own directory refuses is left out, so that the others go on.
        """
        for member in list(self.members):
            try:
                member.put(member.wanted)
            except StageFailed as fault:
                if self.resumed or member.plan.remote is not None:
                    raise
                member.put(member.previous)
                member.fault = fault
                self.members.remove(member)
                self.left_out.append(member)
                self.write()

    def reload(self) -> None:
        """Tell each server once whose files are new; none whose configuration is broken."""
        self._was_told = True
        usable = [server for server in self._all() if not self._is_broken(server)]
        self.servers.start_after_boot(usable)
        self.boot_id = self._booted or self.boot_id
        for server in usable:
            concerned = [one for one in self.members if server in one.servers]
            if not self.resumed and all(one.is_back for one in concerned):
                continue  # it refused them, and still has the old ones
            if server.name not in self.servers.told:
                now = self.servers.steady(server)
                if server.name in self.servers.killed and now in STOPPED:
                    self.servers.start(server)
                    continue
                if not self.resumed and now is Running.NO:
                    self.servers.ran[server.name] = now  # somebody stopped it just now
                self.servers.tell(server, now=now)

    def _is_broken(self, server: Server) -> bool:
        """Tell whether its configuration is refused with the old files, too."""
        return any(
            one.verdict is Verdict.BROKEN_BEFORE
            and server in one.servers
            and one.speaks in (None, server)
            for one in self.members
        )

    def judge(self) -> None:
        """Give each member without a verdict one; a death is that of all that the reload brought"""
        undecided = [one for one in self.members if one.verdict is None]
        dead = self.dead(self.servers.settled())
        living = [one for one in undecided if not one.is_read_by(dead)]
        self.see([one for one in self.members if one not in living])
        self._await(living)
        runs = {server.name: self.servers.steady(server) for server in self._all()}
        for one in undecided:
            self.decide(one, runs)
        dead |= self.dead(runs)
        if dead:
            self.note_death(dead)

    def dead(self, runs: Mapping[str, Running]) -> set[str]:
        """Return the names of those that ran before and are dead now."""
        ran = self.servers.ran_before
        return {one.name for one in self._all() if is_dead(ran(one), runs[one.name])}

    def note_death(self, dead: Collection[str]) -> None:
        """Everything that its reload brought to a dead server goes back; the rest is seen later.

        Args:
            dead: names of servers; what only others read stays as it was judged.
        """
        for one in self.members:
            if (
                one.verdict is not Verdict.BROKEN_BEFORE
                and not one.is_back
                and one.is_read_by(dead)
            ):
                one.verdict = Verdict.BACK_BY_DEATH if one.changes else None
                one.speaks = next(server for server in one.servers if server.name in dead)

    def decide(self, one: Member, runs: dict[str, Running]) -> None:
        """Judge a member for each server that reads it; the worst counts."""
        verdicts: list[tuple[Verdict, Server | None]] = []
        for server in one.servers or (None,):
            case = Case(
                new=one.new,
                old=one.old,
                test=Test.PASSES,
                ran=self.servers.ran_before(server) if server else Running.NOT_KNOWN,
                reload=self.servers.how(server)[0] if server else Reload.NONE,
                runs=runs[server.name] if server else Running.NOT_KNOWN,
                before=one.before,
                after=one.looks,
                now=self.now(),
            )
            verdicts.append((judge(case), server))
        one.verdict, one.speaks = min(verdicts, key=lambda found: _WORST_FIRST.index(found[0]))
        if one.verdict is Verdict.SEEN_BEFORE and one.goes_back_in_time:
            one.verdict = Verdict.SERVED  # it has been served here before
        if one.verdict is Verdict.BACK_BY_LEAF and not one.changes:
            one.verdict = Verdict.NOT_CAUSED  # there is nothing to go back to
        if one.speaks:
            one.detail = self.servers.how(one.speaks)[1]

    # --- looking -----------------------------------------------------------------------------

    def _all(self) -> tuple[Server, ...]:
        return self.servers.servers

    def see(self, members: list[Member]) -> None:
        """Look once."""
        found = self.sight.look([one.plan for one in members], [_kind_of(one) for one in members])
        for member, looks in zip(members, found, strict=True):
            member.looks = looks

    def _await(self, members: list[Member]) -> None:
        """Look until each shows its new leaf, where a server was told of it; else once."""
        told = [one for one in members if self._may_still_come(one)]
        self.see([one for one in members if one not in told])
        self.await_all(told, _awaited)

    def await_all(
        self,
        members: list[Member],
        accepts: Callable[[Member], Callable[[tuple[Look, ...]], bool]],
    ) -> None:
        """Look until each shows what it should, for as long as its servers may take."""
        awaited = [
            Awaited(
                one.plan,
                accepts(one),
                self._seconds(one),
                _kind_of(one),
                functools.partial(self.servers.is_any_changing, one.servers),
                max((server.patience for server in one.servers), default=0.0),
            )
            for one in members
        ]
        for member, looks in zip(members, self.sight.wait(awaited), strict=True):
            member.looks = looks

    def _may_still_come(self, one: Member) -> bool:
        return any(
            how is Reload.DONE or (how is Reload.FAILED and server.restarts)
            for server in one.servers
            for how, _ in [self.servers.how(server)]
        )

    def _seconds(self, one: Member) -> float:
        restarts = [server.patience for server in one.servers if server.restarts]
        return max([one.plan.target.probe_timeout, *restarts])

    # --- 8: settled, or broken off -----------------------------------------------------------

    def _settle(self) -> list[Outcome]:
        """Remember what failed, and forget the note; what cannot be tidied now is by the next run.

        A way back of which the end was not seen is kept in the note, and looked at by each run.
        """
        outcomes = [self.outcome_of(one) for one in self.members]
        for member, outcome in zip(self.members, outcomes, strict=True):
            with suppress(RelayError):  # a memory that is damaged, too, is that target's alone
                self._remember(member, outcome)
        outcomes += [one.outcome(one.fault) for one in self.left_out]
        self.members[:] = [one for one in self.members if one.verdict is Verdict.BACK_UNSEEN]
        with suppress(StageFailed):
            self.write()
        return outcomes

    def _remember(self, one: Member, outcome: Outcome) -> None:
        if one.is_back:
            if one.is_new_generation and outcome.error is not None:
                alone = one.verdict is Verdict.BACK_BY_DEATH and len(self.members) > 1
                reason = SetAside(
                    outcome.error.type, outcome.error.what, int(self.now()), alone=alone
                )
                one.generations.mark(one.generation, reason)
            return
        one.generations.clear(one.generation)
        if one.goes_back_in_time and one.previous is not None:
            left = generation_of(one.previous)
            what = f"Generation {left} was rolled back by an operator."
            one.generations.mark(left, SetAside(OPERATOR, what, int(self.now())))
        one.generations.prune(one.plan.target.keep, one.previous, mounted=self.mounted)

    def outcome_of(self, one: Member) -> Outcome:
        assert one.verdict is not None
        server = one.speaks or (one.servers[0] if one.servers else _NO_SERVER)
        about = About(
            certificate=one.plan.target.certificate,
            generation=one.generation,
            leaf_sha256=one.new.sha256,
            server=server,
            previous=None if one.previous is None else generation_of(one.previous),
            ran=self.servers.ran_before(server),
            detail=one.detail,
            before=one.before,
            looks=one.looks,
        )
        return one.outcome(error_of(one.verdict, about))

    def break_off(self, fault: RelayError) -> list[Outcome]:
        """Nothing more can be done now. Before a reload all goes back; after it the note stays."""
        if not self.resumed and not self._was_told:
            left = list(self.members)
            with suppress(RelayError):
                for one in left:
                    one.put(one.previous)
                self.members.clear()
                self.write()
            self.members[:] = left  # each has an outcome, whether the note could be dropped or not
        for one in self.members:
            one.verdict = None
        outcomes = [one.outcome(fault) for one in self.members]
        return outcomes + [one.outcome(one.fault) for one in self.left_out]


def _kind_of(one: Member) -> str | None:
    """Return the kind of key of what its verdict wants in place."""
    return one.kind(one.wanted or one.to)


def _awaited(one: Member) -> Callable[[tuple[Look, ...]], bool]:
    """What is waited for: that each shows the new leaf, but what could not be seen before either.

    Each look asks; the leaf is read from the disk once.
    """
    leaf = one.new.sha256
    unknown = {look.where for look in one.before if look.answer is Answer.NOT_KNOWN}
    return lambda looks: all(
        look.leaf_sha256 == leaf or (look.answer is Answer.NOT_KNOWN and look.where in unknown)
        for look in looks
    )
