"""What the models of requests and answers have in common."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

MAX_NUMBER = 2**53 - 1
"""What every reader of JSON holds exactly (RFC 8259 section 6)."""
LARGEST_PAGE = 200

Moment = Annotated[int, Field(description="Unix seconds.", ge=0, le=MAX_NUMBER)]
Number = Annotated[int, Field(ge=0, le=MAX_NUMBER)]


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("it holds something else than printable characters")
    return text


Words = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]


class Request(BaseModel):
    """A request's body: no member that is not known, none of another kind than it says."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def example(value: dict[str, Any]) -> ConfigDict:
    """Return what adds an example to the schema of a model."""
    return ConfigDict(json_schema_extra={"example": value})


class Query(BaseModel):
    """A request's query: no parameter that is not known. Its values come as text."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Answer(BaseModel):
    """An answer's body."""

    model_config = ConfigDict(extra="forbid")


class Fault(Answer):
    member: str = Field(description="Path of the member: names.0")
    what: str


class Problem(Answer):
    """A refusal (RFC 9457)."""

    type: str = Field(description="Stable: urn:split-horizon-relay:problem:…")
    title: str
    status: int
    detail: str = Field(description="What happened, for people.")
    means: str | None = Field(None, description="What it means for an operator.")
    do: str | None = Field(None, description="What to do about it.")
    error: str | None = Field(None, description="Stable name of the error.")
    exit_code: int | None = Field(None, description="What a command line ends with.")
    faults: list[Fault] | None = None


class ErrorNote(Answer):
    type: str
    what: str
    at: int


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """Return a model's JSON schema as it stands in the OpenAPI document."""
    return model.model_json_schema(ref_template="#/components/schemas/{model}")
