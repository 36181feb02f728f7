"""What is asked of the doctor, and what it answers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from external_agent.operator.model import Answer, Request, example

MOST = 20
Name = Annotated[str, Field(max_length=255)]


class Examination(Request):
    """Which certificates are looked at; none are all of them, as far as that is bearable."""

    model_config = example({"certificates": ["www.intra.example.com"]})

    certificates: Annotated[list[Name], Field(max_length=MOST)] = Field(default_factory=list)


class FindingModel(Answer):
    """What one check found."""

    side: Literal["agent", "puller", "both"]
    host: str
    check: str
    verdict: Literal["ok", "note", "unknown", "warning", "problem"]
    subject: str
    what: str
    do: str


class Diagnosis(Answer):
    """What the agent finds, beside what the pullers found when they looked last."""

    at: int
    healthy: bool
    summary: str
    findings: list[FindingModel]
