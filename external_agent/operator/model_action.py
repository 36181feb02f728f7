"""Bodies of the calls that change something, and what they answer."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from external_agent.operator.model import Answer, Moment, Number, Request, Words, example

KeyOrigin = Literal["agent", "puller"]
KeyAlgorithm = Literal["ec-p256", "ec-p384", "rsa-2048", "rsa-3072", "rsa-4096"]
Challenge = Literal["http-01", "dns-01", "dns-persist-01"]
RoleName = Literal["read", "operate", "admin"]
DnsText = Annotated[str, Field(min_length=1, max_length=255)]
Names = Annotated[list[DnsText], Field(min_length=1, max_length=100)]
Cas = Annotated[list[Annotated[str, Field(min_length=1, max_length=500)]], Field(max_length=10)]
Profile = Annotated[str, Field(max_length=64, pattern=r"^[ -~]*$")]
CertificateId = Annotated[str, Field(min_length=1, max_length=200)]


class NewCertificate(Request):
    model_config = example({"names": ["www.intra.example.com"]})

    names: Names
    certificate: CertificateId | None = Field(None, description="Its id; else the first name.")
    key_origin: KeyOrigin = "agent"
    key_algorithm: KeyAlgorithm = "ec-p256"
    challenge: Challenge = "http-01"
    profile: Profile | None = None
    cas: Cas = Field([], description="CAs of the settings, by name or URL, the preferred first.")


class Change(Request):
    """Members that are given are changed; a new generation is wanted."""

    model_config = example({"names": ["www.intra.example.com", "intra.example.com"]})

    names: Names | None = None
    key_origin: KeyOrigin | None = None
    key_algorithm: KeyAlgorithm | None = None
    challenge: Challenge | None = None
    profile: Profile | None = Field(None, description="Empty: none.")
    cas: Cas | None = None


class NewPause(Request):
    model_config = example({"until": 1_900_000_000, "reason": "the name moves"})

    until: Moment | None = Field(None, description="Unix seconds; null: until it is resumed.")
    reason: Words = "an operator asked for it"


class Revocation(Request):
    model_config = example({"reason": "superseded"})

    generation: Number | None = Field(None, description="By default the newest.")
    reason: Literal[
        "unspecified", "keyCompromise", "affiliationChanged", "superseded", "cessationOfOperation"
    ] = "unspecified"


class Revoked(Answer):
    certificate: str
    generation: int
    before: bool = Field(description="It was revoked already.")
    renewed: bool = Field(description="A new generation is wanted because of it.")


class RenewAll(Request):
    """To order everything at once has to be said in so many words."""

    model_config = example({"certificates": "all"})

    certificates: Literal["all"]


class Wanted(Answer):
    """Certificates of which a new generation is wanted."""

    certificates: list[str]


class NewEnrolment(Request):
    model_config = example({"certificates": ["www.intra.example.com"], "lifetime": 3600})

    certificates: Annotated[list[CertificateId], Field(min_length=1, max_length=100)]
    lifetime: Annotated[int, Field(ge=60, le=86400, description="Seconds.")] = 3600


class Enrolment(Answer):
    """A one-time token with which a machine becomes a puller."""

    token_id: str
    certificates: list[str]
    created_at: int
    expires_at: int
    redeemed_at: int | None
    redeemed_by: str | None
    voided_at: int | None


class Enrolments(Answer):
    items: list[Enrolment]


class MadeEnrolment(Enrolment):
    token: str = Field(description="Shown once: a secret while it lives.")


class Suspension(Request):
    model_config = example({"reason": "its disk was stolen"})

    reason: Words = "an operator asked for it"


class NewAccess(Request):
    model_config = example({"name": "prometheus", "role": "read"})

    name: Annotated[str, Field(pattern=r"^[!-~]([ -~]{0,62}[!-~])?$", max_length=64)]
    role: RoleName = "read"
    lifetime: Annotated[int, Field(ge=60, le=366 * 86400, description="Seconds.")] = 90 * 86400


class Access(Answer):
    """An access token, without its secret."""

    token_id: str
    name: str
    role: RoleName
    created_at: int
    expires_at: int
    voided_at: int | None
    used_at: int | None = Field(description="Within the last hour of it; null: never.")


class AccessTokens(Answer):
    items: list[Access]


class MadeAccess(Access):
    token: str = Field(description="Shown once.")


class Me(Answer):
    """Who asks."""

    actor: str
    role: RoleName
    expires_at: int | None
