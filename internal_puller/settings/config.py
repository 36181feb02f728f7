"""Settings of the puller: a TOML file and the environment, read once into a frozen object.

Every setting may also come from the environment as ``RELAY_PULLER_<NAME>``, which wins.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from internal_puller.settings.targets import KEY_ALGORITHMS
from internal_puller.settings.toml_file import read_toml, truth_of
from shared.contract.errors import ConfigurationError

ENVIRONMENT_PREFIX = "RELAY_PULLER_"
CONFIG_VARIABLE = ENVIRONMENT_PREFIX + "CONFIG"


@dataclass(frozen=True)
class Settings:
    """
    Attributes:
        state_directory: keys, floors and progress; 0700.
        targets_file: where certificates are installed.
        direct_file: which certificates this machine gets by itself; it may be missing.
        lock_file: one installation at a time; None is in the state directory, where nobody else
            can make it first and hold it for ever.
        proxy: URL of an HTTP(S) proxy; empty takes HTTPS_PROXY and NO_PROXY from the
            environment; ``none`` connects directly whatever the environment says.
        roots_file: PEM file of more roots for the TLS connection to the agent and to an https
            proxy, such as that of a TLS-opening proxy. It never makes a bundle acceptable.
        timeout: seconds for a whole exchange with the agent, body included.
        report_addresses: tell the agent the addresses where a certificate was seen served.
        key_algorithm: of keys made on this machine, where a target says nothing else.
        metrics_file: written at the end of each pull, for node-exporter; None writes none.
        warn_below: share of a certificate's life; with less left, ``pull`` warns and exits 13.
        alarm_command: argument list, run when something needs a person, and when it is over.
        alarm_mail: address that gets the same by sendmail.
        alarm_hours: the agent has been out of reach for so long when that is such a thing.
    """

    state_directory: Path
    targets_file: Path
    direct_file: Path
    lock_file: Path | None = None
    proxy: str = field(default="", repr=False)
    roots_file: Path | None = None
    timeout: float = 30.0
    report_addresses: bool = False
    warn_below: float = 0.2
    key_algorithm: str = "ec-p256"
    metrics_file: Path | None = None
    alarm_command: tuple[str, ...] = ()
    alarm_mail: str = ""
    alarm_hours: float = 24.0

    @property
    def lock(self) -> Path:
        """The file that an installation locks."""
        return self.lock_file or self.state_directory / "install.lock"


def load_settings(
    path: Path | None = None, *, environment: Mapping[str, str] | None = None
) -> Settings:
    """Read the settings.

    Args:
        path: the file; ``None`` is ``RELAY_PULLER_CONFIG``, else the common place, where it may be
            missing.
        environment: ``os.environ`` if not given.

    Raises:
        ConfigurationError: an unknown setting (the nearest known one is named), a wrong value, or
            a file that was named and cannot be read.
        LooseFileMode: another account could change the file; it names commands.
    """
    environment = os.environ if environment is None else environment
    named = path or _path_of(environment.get(CONFIG_VARIABLE))
    file = named or _default_config_directory(environment) / "puller.toml"
    values = _from_file(file, required=named is not None)
    values |= _from_environment(environment)
    values.setdefault("state_directory", _default_state_directory(environment))
    values.setdefault("targets_file", file.parent / "targets.toml")
    values.setdefault("direct_file", file.parent / "direct.toml")
    return Settings(**values)


def _from_file(path: Path, *, required: bool) -> dict[str, Any]:
    text = read_toml(path)
    if text is None:
        if required:
            raise ConfigurationError(f"There is no settings file {path}.")
        return {}
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path} is no TOML: {error}.") from error
    values = {}
    for key, value in document.items():
        _known(key, f"{path}: unknown setting")
        values[key] = _READERS[key](f"{path}: {key}", value)
    return values


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    values = {}
    for variable, text in environment.items():
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable == CONFIG_VARIABLE:
            continue
        key = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
        _known(key, f"Environment variable {variable}: unknown setting")
        values[key] = _READERS[key](variable, _typed(key, text))
    return values


def _typed(key: str, text: str) -> object:
    if _READERS[key] is truth_of:
        return {"true": True, "1": True, "false": False, "0": False}.get(text.lower(), text)
    if _READERS[key] is _argv:
        try:
            return json.loads(text)
        except ValueError:
            return text
    if _READERS[key] in (_seconds, _share, _hours):
        try:
            return float(text)
        except ValueError:
            return text
    return text


def _known(key: str, where: str) -> None:
    if key in _READERS:
        return
    import difflib

    nearest = difflib.get_close_matches(key, _READERS, n=1, cutoff=0.0)[0]
    raise ConfigurationError(f"{where} {key!r:.60}.", do=f"Did you mean {nearest!r}?")


def _path_of(text: str | None) -> Path | None:
    return Path(text) if text else None


def _path(where: str, value: object) -> Path:
    if not isinstance(value, str) or not Path(value).is_absolute():
        raise ConfigurationError(f"{where} is no absolute path.")
    return Path(value)


def _metrics_file(where: str, value: object) -> Path:
    path = _path(where, value)
    if path.suffix != ".prom":
        raise ConfigurationError(
            f"{where} does not end in .prom.", do="node-exporter reads no other files."
        )
    return path


def _seconds(where: str, value: object) -> float:
    if type(value) not in (int, float) or not 1 <= value <= 600:  # type: ignore[operator]
        raise ConfigurationError(f"{where} is no number of seconds between 1 and 600.")
    return float(value)  # type: ignore[arg-type]


def _share(where: str, value: object) -> float:
    if type(value) not in (int, float) or not 0 <= value < 1:  # type: ignore[operator]
        raise ConfigurationError(f"{where} is no share between 0 and 1, such as 0.2.")
    return float(value)  # type: ignore[arg-type]


def _hours(where: str, value: object) -> float:
    if type(value) not in (int, float) or not 1 <= value <= 720:  # type: ignore[operator]
        raise ConfigurationError(f"{where} is no number of hours between 1 and 720.")
    return float(value)  # type: ignore[arg-type]


def _argv(where: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
        raise ConfigurationError(
            f"{where} is no list of arguments.", do='Write it as ["/usr/local/bin/tell", "ops"].'
        )
    return tuple(value)


def _mail_address(where: str, value: object) -> str:
    if value == "":
        return ""
    ends = value.split("@") if isinstance(value, str) else []
    if len(ends) != 2 or not all(ends) or any(c in " ,;<>\r\n\0" for c in str(value)):
        raise ConfigurationError(f"{where} is no mail address such as ops@example.com.")
    return str(value)


def _algorithm(where: str, value: object) -> str:
    if value not in KEY_ALGORITHMS:
        raise ConfigurationError(f"{where} is none of {', '.join(KEY_ALGORITHMS)}.")
    return str(value)


def _proxy(where: str, value: object) -> str:
    if value in ("", "none"):
        return str(value)
    from internal_puller.settings.proxies import check_proxy_url

    return check_proxy_url(where, value)


_READERS: dict[str, Callable[[str, object], Any]] = {
    "state_directory": _path,
    "targets_file": _path,
    "direct_file": _path,
    "lock_file": _path,
    "proxy": _proxy,
    "roots_file": _path,
    "timeout": _seconds,
    "report_addresses": truth_of,
    "warn_below": _share,
    "key_algorithm": _algorithm,
    "metrics_file": _metrics_file,
    "alarm_command": _argv,
    "alarm_mail": _mail_address,
    "alarm_hours": _hours,
}
assert set(_READERS) == {one.name for one in fields(Settings)}


def _default_config_directory(environment: Mapping[str, str]) -> Path:
    if os.geteuid() == 0:
        return Path("/etc/split-horizon-relay")
    base = environment.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "split-horizon-relay"


def _default_state_directory(environment: Mapping[str, str]) -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib/split-horizon-relay/puller")
    base = environment.get("XDG_STATE_HOME") or str(Path.home() / ".local/state")
    return Path(base) / "split-horizon-relay" / "puller"
