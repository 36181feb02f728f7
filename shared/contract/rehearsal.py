"""How a rehearsal at the agent stands, as the puller that began it is told; docs/FORMAT.md."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Self, cast

from shared.contract import strict_json
from shared.contract.bundle import MAX_ENVELOPE
from shared.contract.errors import MalformedMessage
from shared.contract.strict_json import Members

Outcome = Literal["running", "done", "failed"]
OUTCOMES = frozenset(("running", "done", "failed"))
MAX_ANSWER = 2 * 1024 * 1024
_MAX_STEPS = 32
_MAX_TEXT = 1200


@dataclass(frozen=True, slots=True)
class Step:
    """One step: a stable word, whether it succeeded, what came of it, and what to do if not."""

    name: str
    good: bool
    what: str
    do: str = ""

    def members(self) -> dict[str, object]:
        return {
            "name": self.name,
            "good": self.good,
            "what": self.what[:_MAX_TEXT],
            "do": self.do[:_MAX_TEXT],
        }

    @classmethod
    def read(cls, members: Members) -> Self:
        return cls(
            name=members.text("name", max_length=64),
            good=members.boolean("good"),
            what=members.text("what", max_length=_MAX_TEXT),
            do=members.text("do", max_length=_MAX_TEXT),
        )


@dataclass(frozen=True, slots=True)
class State:
    """
    Attributes:
        staging: directory URL of the CA that it is done with.
    """

    outcome: Outcome
    staging: str
    steps: tuple[Step, ...] = ()

    def after(self, step: Step) -> State:
        """Return it with one step more."""
        return replace(self, steps=(*self.steps, step))


@dataclass(frozen=True, slots=True)
class RehearsalAnswer:
    """``envelope`` is there once ``state`` says ``done``."""

    state: State
    envelope: bytes | None = None

    def encode(self) -> bytes:
        return strict_json.encode(
            {
                "outcome": self.state.outcome,
                "staging": self.state.staging,
                "steps": [one.members() for one in self.state.steps],
                "bundle": None if self.envelope is None else self.envelope.decode("utf-8"),
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """
        Raises:
            MalformedMessage: any other shape.
        """
        members = strict_json.decode_object(
            data, "The answer about the rehearsal", max_size=MAX_ANSWER, error=MalformedMessage
        )
        state = State(
            outcome=cast(Outcome, members.one_of("outcome", OUTCOMES)),
            staging=members.text("staging"),
            steps=members.objects("steps", Step.read, max_items=_MAX_STEPS),
        )
        envelope = (
            None
            if members.take_null("bundle")
            else members.text("bundle", max_length=MAX_ENVELOPE).encode("utf-8")
        )
        members.nothing_left()
        return cls(state, envelope)
