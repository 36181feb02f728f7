"""The agent's settings: read once from TOML and environment into a frozen object."""

from __future__ import annotations

import dataclasses
import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from external_agent.facts.issues import USUAL, Thresholds
from external_agent.settings.addresses import parse_address
from shared.acme.directories import CERTIFICATE_AUTHORITIES, KNOWN_CAS, binding_hint, wants_binding
from shared.acme.dns01.settings import (
    Dns01Settings,
    parse_server,
    read_dns01_settings,
    section_fields,
)
from shared.contract.enrolment_token import check_relay_url
from shared.contract.errors import ConfigurationError, RelayError
from shared.host.trusted_file import find_trusted
from shared.issuing.renewal import DAY, HOUR

ENVIRONMENT_PREFIX = "RELAY_AGENT_"
CONFIG_VARIABLE = ENVIRONMENT_PREFIX + "CONFIG"


def _address(text: str) -> str:
    parse_address(text)
    return text


def _host_name(text: str) -> str:
    if not text or any(c in text for c in "/:@ ") or not text.isascii():
        raise ConfigurationError(
            f"{text!r:.80} is not a host name: it looks like relay.example.com, without a port."
        )
    return text.lower()


def _contact(text: str) -> str:
    if not text.startswith("mailto:") or text.count("@") != 1 or any(c in text for c in " ,?\r\n"):
        raise ConfigurationError(
            f"{text!r:.80} is not a contact: it looks like mailto:ops@example.com."
        )
    return text


def _server(text: str) -> str:
    parse_server(text)
    return text


def _dns01(value: object) -> object:
    return read_dns01_settings(value) if isinstance(value, Mapping) else value


Dns01Section = Annotated[Dns01Settings, BeforeValidator(_dns01)]
ServerText = Annotated[str, AfterValidator(_server)]
AddressText = Annotated[str, AfterValidator(_address)]
HostName = Annotated[str, AfterValidator(_host_name)]
ContactText = Annotated[str, AfterValidator(_contact)]
RelayUrl = Annotated[str, AfterValidator(check_relay_url)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CaSection(_Section):
    """One CA, and how it is reached."""

    directory: str = ""
    terms_agreed: bool = False
    contact: tuple[ContactText, ...] = ()
    ca_root: Path | None = None
    proxy: str | None = None
    profile: str | None = None
    preferred_chain: str | None = None
    eab_key_id: str | None = None
    eab_hmac_key_file: Path | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.eab_key_id is None) != (self.eab_hmac_key_file is None):
            raise ConfigurationError("eab_key_id and eab_hmac_key_file of a CA go together.")
        return self


class AcmeSettings(CaSection):
    """The CA that certificates are asked from, and by name those that may be asked, too."""

    directory: str = KNOWN_CAS["letsencrypt"].url
    staging: str = ""
    cas: Mapping[str, CaSection] = {}
    allowed_http_hosts: frozenset[str] = frozenset()

    @model_validator(mode="after")
    def _check_cas(self) -> Self:
        for name, section in self.cas.items():
            if not section.directory and name not in CERTIFICATE_AUTHORITIES:
                raise ConfigurationError(
                    f"acme.cas.{name} has no directory, and {name!r:.40} is no known CA.",
                    do=f"Give its directory URL; known ones: {', '.join(CERTIFICATE_AUTHORITIES)}.",
                )
        if self.staging:
            self.directory_of(self.staging)
        return self

    def at(self, directory_url: str) -> CaSection:
        """Return the section of a CA; of one that no section names any more, the default one."""
        if directory_url != self.directory:
            for name in self.cas:
                section = self.section(name)
                if section.directory == directory_url:
                    return section
        return self

    def section(self, name: str) -> CaSection:
        """Return a further CA with what it inherits: directory, contact, proxy."""
        section = self.cas[name]
        return section.model_copy(
            update={
                "directory": section.directory or CERTIFICATE_AUTHORITIES.get(name, ""),
                "contact": section.contact or self.contact,
                "proxy": self.proxy if section.proxy is None else section.proxy,
            }
        )

    def directory_of(self, text: str) -> str:
        """Return the directory URL of a CA that is set up here, by its name or its URL.

        Raises:
            ConfigurationError: there is no such CA in the settings.
        """
        if text in self.cas:
            return self.section(text).directory
        known = text in CERTIFICATE_AUTHORITIES
        url = CERTIFICATE_AUTHORITIES.get(text, text)
        here = [self.directory, *(self.section(name).directory for name in self.cas)]
        if url in here:
            return url
        raise ConfigurationError(
            f"The CA {text!r:.80} is not in the settings.",
            do=f"Add a section [acme.cas.{text if known else 'NAME'}] with terms_agreed = true"
            + (f". {binding_hint(url)}" if wants_binding(url) else "")
            + f"; there are: {', '.join(here)}.",
        )


class ChallengeSettings(_Section):
    """The listener that answers the CA's http-01 checks."""

    listen: tuple[AddressText, ...] = ("0.0.0.0:80", "[::]:80")
    max_connections: int = Field(default=4096, ge=16, le=100_000)
    timeout: float = Field(default=10.0, gt=0, le=120)
    public_port: int = Field(default=80, ge=1, le=65535)


class RelaySettings(_Section):
    """The listener for pullers."""

    url: RelayUrl
    listen: tuple[AddressText, ...] = ("0.0.0.0:8443", "[::]:8443")
    other_urls: tuple[RelayUrl, ...] = ()
    tls: Literal["self", "acme", "files", "none"] = "self"
    challenge: Literal["http-01", "dns-01", "dns-persist-01"] = "http-01"
    certificate_file: Path | None = None
    key_file: Path | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        files = (self.certificate_file, self.key_file)
        if self.tls == "files" and None in files:
            raise ConfigurationError(
                'relay.tls = "files" needs relay.certificate_file and relay.key_file.'
            )
        if self.tls == "none" and not all(parse_address(a).is_loopback for a in self.listen):
            raise ConfigurationError(
                'relay.tls = "none" is for a reverse proxy on this machine only: '
                "let relay.listen name loopback addresses."
            )
        return self


class OperatorSettings(_Section):
    """The listeners for the people who run this: over TCP by tokens, on a socket for root."""

    listen: tuple[AddressText, ...] = ("127.0.0.1:8080",)
    certificate_file: Path | None = None
    key_file: Path | None = None
    allowed_hosts: frozenset[HostName] = frozenset()
    open_read: bool = False
    socket: Path | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ConfigurationError("operator.certificate_file and operator.key_file go together.")
        for text in self.listen:
            if self.certificate_file is None and not parse_address(text).is_loopback:
                raise ConfigurationError(
                    f"operator.listen names {text}, which is not a loopback address: without TLS "
                    "everybody on the way reads the access tokens.",
                    do="Set operator.certificate_file and operator.key_file, or let a reverse "
                    "proxy on this machine do TLS.",
                )
        return self


class IssuingSettings(_Section):
    """How orders are worked on."""

    workers: int = Field(default=4, ge=1, le=64)


class RetentionSettings(_Section):
    """How long events, receipts and failed attempts are kept; 0 is for ever."""

    days: int = Field(default=800, ge=0, le=36500)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if 0 < self.days < 90:
            raise ConfigurationError("retention.days is 0 (for ever) or at least 90.")
        return self


class AttentionSettings(_Section):
    """From when on something needs somebody: on the page, in status, metrics and alerts alike."""

    failures: int = Field(default=USUAL.failures, ge=1, le=1000)
    life_left: float = Field(default=USUAL.life_left, gt=0, lt=1)
    life_left_critical: float = Field(default=USUAL.life_left_critical, gt=0, lt=1)
    delivery_hours: int = Field(default=USUAL.grace // HOUR, ge=1, le=720)
    silent_hours: int = Field(default=USUAL.silent // HOUR, ge=1, le=720)
    record_days: int = Field(default=USUAL.record // DAY, ge=1, le=365)
    record_days_critical: int = Field(default=USUAL.record_critical // DAY, ge=1, le=365)

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in ("life_left", "record_days"):
            if getattr(self, f"{name}_critical") > getattr(self, name):
                raise ConfigurationError(
                    f"attention.{name}_critical is larger than attention.{name}: it would never "
                    "be a warning first."
                )
        return self

    @property
    def thresholds(self) -> Thresholds:
        return Thresholds(
            failures=self.failures,
            life_left=self.life_left,
            life_left_critical=self.life_left_critical,
            grace=self.delivery_hours * HOUR,
            silent=self.silent_hours * HOUR,
            record=self.record_days * DAY,
            record_critical=self.record_days_critical * DAY,
        )


class AlertSettings(_Section):
    """Who is told by mail, chat or webhook, of what, and in which language.

    Attributes:
        receivers_file: a line ``NAME=URL`` for each; URLs as apprise knows them; mode 0600.
        least: the least severity that is told.
        patience_minutes: how long a warning must last to be told, and be gone to be called over.
            What is critical is told at once.
    """

    receivers_file: Path | None = None
    language: Literal["en", "ja"] = "en"
    least: Literal["warning", "critical"] = "warning"
    patience_minutes: int = Field(default=10, ge=0, le=1440)


class DoctorSettings(_Section):
    """
    Attributes:
        resolvers: asked how the Internet sees a name; none are those of dns01.resolvers.
        pause: seconds that the examinations one puller asks for are apart in the long run.
    """

    resolvers: tuple[ServerText, ...] = ("1.1.1.1", "9.9.9.9")
    pause: float = Field(default=60, ge=0, le=3600)


class LogSettings(_Section):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = "auto"


class Settings(BaseSettings):
    """Everything that does not change in operation.

    Attributes:
        state_directory: keys and, unless ``database`` says otherwise, the database; mode 0700.
        database: SQLAlchemy URL; empty for ``relay.db`` in the state directory.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix=ENVIRONMENT_PREFIX,
        env_nested_delimiter="__",
    )

    state_directory: Path
    database: str = ""
    acme: AcmeSettings = AcmeSettings()
    challenge: ChallengeSettings = ChallengeSettings()
    dns01: Dns01Section = Dns01Settings()
    relay: RelaySettings
    operator: OperatorSettings = OperatorSettings()
    issuing: IssuingSettings = IssuingSettings()
    retention: RetentionSettings = RetentionSettings()
    attention: AttentionSettings = AttentionSettings()
    alerts: AlertSettings = AlertSettings()
    doctor: DoctorSettings = DoctorSettings()
    log: LogSettings = LogSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (env_settings, init_settings)

    @property
    def database_url(self) -> str:
        return self.database or f"sqlite:///{self.state_directory / 'relay.db'}"

    @property
    def operator_socket(self) -> Path:
        return self.operator.socket or self.state_directory / "operator.sock"

    @property
    def relay_origins(self) -> tuple[str, ...]:
        return (self.relay.url, *self.relay.other_urls)


def default_config_path() -> Path:
    """Return where ``init`` writes and the others read, without ``--config``."""
    if os.geteuid() == 0:
        return Path("/etc/split-horizon-relay/agent.toml")
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "split-horizon-relay" / "agent.toml"


def default_state_directory() -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib/split-horizon-relay/agent")
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "split-horizon-relay" / "agent"


def load_settings(path: Path) -> Settings:
    """Read the settings file and the environment (``RELAY_AGENT_ACME__DIRECTORY=…``).

    Raises:
        ConfigurationError: no such file, no TOML, an unknown setting (the nearest known one is
            named), a value of the wrong kind.
        LooseFileMode: another account could change the file; it names commands.
    """
    content = find_trusted(path, "settings file", commands=True)
    if content is None:
        raise ConfigurationError(
            f"There is no settings file {path}.",
            do="Run external-agent init, or name the file with --config.",
        )
    try:
        data = tomllib.loads(content.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"The settings file {path} cannot be read: {error}.") from error
    return settings_from(data, source=str(path))


def settings_from(data: Mapping[str, Any], *, source: str) -> Settings:
    """Return checked settings; ``source`` is how errors call the place they come from."""
    _refuse_unknown(data, Settings, (), source)
    _refuse_unknown(_environment(), Settings, (), f"the environment ({ENVIRONMENT_PREFIX}…)")
    try:
        return Settings(**data)
    except ValidationError as error:
        raise ConfigurationError(f"{_first_fault(error)} (in {source}).") from error
    except SettingsError as error:
        raise ConfigurationError(
            f"The environment ({ENVIRONMENT_PREFIX}…): {error}.",
            do='Write lists as JSON, such as ["mailto:ops@example.com"].',
        ) from error
    except RelayError as error:
        raise ConfigurationError(f"{error.what.rstrip('.')} (in {source}).") from error


def _environment() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in os.environ:
        if name.upper().startswith(ENVIRONMENT_PREFIX) and name.upper() != CONFIG_VARIABLE:
            *sections, last = name[len(ENVIRONMENT_PREFIX) :].lower().split("__")
            level = found
            for section in sections:
                level[section] = level.get(section) or {}  # the section itself may be set, too
                level = level[section]
            level.setdefault(last, None)
    return found


def _refuse_unknown(
    data: Mapping[str, Any], section: type, above: tuple[str, ...], source: str
) -> None:
    fields = _fields(section)
    for key, value in data.items():
        if key not in fields:
            dotted = ".".join((*above, key))
            raise ConfigurationError(f"Unknown setting {dotted!r} in {source}.{_nearest(dotted)}")
        if not isinstance(value, Mapping):
            continue
        if (inner := _as_section(fields[key])) is not None:
            _refuse_unknown(value, inner, (*above, key), source)
        elif (inner := _section_by_name(fields[key])) is not None:
            for name, one in value.items():
                if isinstance(one, Mapping):
                    _refuse_unknown(one, inner, (*above, key, name), source)


def _fields(section: type) -> Mapping[str, object]:
    """Return the names and types of a section's settings."""
    if issubclass(section, BaseModel):
        return {name: field.annotation for name, field in section.model_fields.items()}
    return section_fields(section)


def _as_section(kind: object) -> type | None:
    if not isinstance(kind, type):
        return None
    return kind if issubclass(kind, BaseModel) or dataclasses.is_dataclass(kind) else None


def _section_by_name(kind: object) -> type | None:
    """Return the section of which a setting holds any number, each under a name."""
    return _as_section(get_args(kind)[1]) if get_origin(kind) is Mapping else None


def known_settings(section: type = Settings, above: str = "") -> list[str]:
    """Return every setting's dotted name."""
    names: list[str] = []
    for key, kind in _fields(section).items():
        if (inner := _as_section(kind)) is not None:
            names += known_settings(inner, f"{above}{key}.")
        elif (inner := _section_by_name(kind)) is not None:
            names += known_settings(inner, f"{above}{key}.NAME.")
        else:
            names.append(above + key)
    return names


def _nearest(dotted: str) -> str:
    names = known_settings()
    section = difflib.get_close_matches(dotted, {one.split(".")[0] for one in names}, n=1)
    names = [one for one in names if one.split(".")[0] in section] or names
    near = difflib.get_close_matches(dotted, names, n=1, cutoff=0.0)
    last = dotted.rsplit(".", 1)[-1]
    same_end = [name for name in names if name.rsplit(".", 1)[-1] == last]
    return f" The nearest known one is {(same_end or near)[0]!r}."


def _first_fault(error: ValidationError) -> str:
    fault = error.errors()[0]
    where = ".".join(str(part) for part in fault["loc"] if not isinstance(part, int))
    if fault["type"] == "missing":
        return f"Setting {where!r} is missing"
    return f"Setting {where!r} is not acceptable: {fault['msg']}"
