"""The file ``direct.toml``: which CA, as whom, and which certificates; the standard library only.

directory, terms_agreed, contact, ca_root, proxy, profile, preferred_chain, eab_key_id,
eab_hmac_key_file
[ca.NAME]                one more CA, the same; contact and proxy are those above if not given
[dns01]                  how TXT records are written; read by whoever writes them
[[certificate]]          certificate, names, challenge, key_algorithm, profile, preferred_chain, ca
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from internal_puller.settings.toml_file import (
    check_keys,
    path_of,
    read_toml,
    text_of,
    texts_of,
    truth_of,
)
from shared.contract.errors import ConfigurationError, PolicyError
from shared.contract.identifiers import check_certificate_id, parse_names

CHALLENGES: Final = ("dns-01", "dns-persist-01")
KEY_ALGORITHMS: Final = ("ec-p256", "ec-p384", "rsa-2048", "rsa-3072", "rsa-4096")


@dataclass(frozen=True)
class DirectCertificate:
    """One certificate that this machine gets by itself.

    Attributes:
        certificate: its id, as targets name it.
        names: sorted A-labels.
        key_algorithm: one of :data:`KEY_ALGORITHMS`.
        profile: asked of the CA, ``None`` for its default.
        preferred_chain: common name of the issuer that the chain should end in.
        ca: its CAs by name or URL, the preferred first; of none the default CA.
    """

    certificate: str
    names: tuple[str, ...]
    challenge: str
    key_algorithm: str = "ec-p256"
    profile: str | None = None
    preferred_chain: str | None = None
    ca: tuple[str, ...] = ()


@dataclass(frozen=True)
class DirectSettings:
    """
    Attributes:
        directory: https URL of the CA's ACME directory.
        ca_root: PEM file that the CA's own HTTPS must chain to; ``None`` for public roots.
        proxy: as the puller's setting of the same name; ``None`` takes that one.
        profile, preferred_chain: for certificates that name none.
        cas: directory URL to what the file says of one more CA, as members of this record.
        ca_names: name to directory URL of those.
        dns01: the table as it stands; checked by :mod:`internal_puller.sources.direct.solving`.
    """

    path: Path
    directory: str
    terms_agreed: bool = False
    contact: tuple[str, ...] = ()
    ca_root: Path | None = None
    proxy: str | None = field(default=None, repr=False)
    eab_key_id: str | None = None
    eab_hmac_key_file: Path | None = None
    profile: str | None = None
    preferred_chain: str | None = None
    cas: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    ca_names: Mapping[str, str] = field(default_factory=dict)
    dns01: Mapping[str, Any] = field(default_factory=dict, repr=False)
    certificates: tuple[DirectCertificate, ...] = ()

    def directories(self, wanted: DirectCertificate) -> tuple[str, ...]:
        """Return the URLs of a certificate's CAs, the preferred first.

        Raises:
            ConfigurationError: the file says nothing about one of them.
        """
        return tuple(dict.fromkeys(self.find_ca(one) for one in wanted.ca)) or (self.directory,)

    def find_ca(self, text: str) -> str:
        """Return the directory URL of a CA of the file, given by its name, a known name or URL."""
        if text in self.ca_names:
            return self.ca_names[text]
        url = _known_directory(text) or text
        if url == self.directory or url in self.cas:
            return url
        named = ", ".join((self.directory, *self.ca_names))
        raise ConfigurationError(
            f"{self.path} says nothing about the CA {text!r:.200}; it knows {named:.500}.",
            do="Read its terms, then add a table [ca.NAME] with directory and terms_agreed = true.",
        )

    def at(self, directory: str) -> DirectSettings:
        """Return these settings with that CA as the only one."""
        return replace(self, **{"directory": directory, **self.cas.get(directory, {}), "cas": {}})

    def find(self, text: str) -> DirectCertificate:
        """Return the certificate with this id or name. Raises ``ConfigurationError``."""
        for one in self.certificates:
            if text == one.certificate or text in one.names:
                return one
        known = ", ".join(one.certificate for one in self.certificates) or "none"
        raise ConfigurationError(
            f"There is no direct certificate {text!r:.200}; there are: {known:.300}.",
            do="Add one: internal-puller direct add NAME --challenge dns-01.",
        )


def load_direct(path: Path) -> DirectSettings | None:
    """Return the settings, ``None`` where direct mode was never set up.

    Raises:
        ConfigurationError: an unknown key (the nearest is named) or a wrong value.
        LooseFileMode: others could have changed it.
    """
    text = read_toml(path)
    if text is None:
        return None
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path} is no TOML: {error}.") from error
    return settings_from(path, document)


def require_direct(path: Path) -> DirectSettings:
    """Return the settings. Raises ``ConfigurationError`` also where there are none."""
    found = load_direct(path)
    if found is None:
        raise ConfigurationError(
            f"Direct mode is not set up: there is no file {path}.",
            do="Set it up: internal-puller direct init --ca letsencrypt --contact mailto:…",
        )
    return found


def settings_from(path: Path, document: Mapping[str, Any]) -> DirectSettings:
    """Return what a parsed file says. Raises ``ConfigurationError``."""
    check_keys(str(path), dict(document), (*_READERS, "ca", "dns01", "certificate"))
    if "directory" not in document:
        raise ConfigurationError(f"{path}: directory is missing: the URL of a CA.")
    values = _members(str(path), document)
    cas, ca_names = _further_cas(path, document.get("ca", {}), values)
    dns01 = document.get("dns01", {})
    tables = document.get("certificate", [])
    if not isinstance(dns01, dict):
        raise ConfigurationError(f"{path}: dns01 is no table.")
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ConfigurationError(f"{path}: certificates are written as [[certificate]] tables.")
    certificates = tuple(
        _certificate(f"{path}, certificate {number}", table)
        for number, table in enumerate(tables, 1)
    )
    if len({one.certificate for one in certificates}) != len(certificates):
        raise ConfigurationError(f"{path}: two certificates have the same id.")
    found = DirectSettings(
        path=path, dns01=dns01, certificates=certificates, cas=cas, ca_names=ca_names, **values
    )
    for one in certificates:
        found.directories(one)
    return found


def _members(where: str, table: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is said of one CA. Raises ``ConfigurationError``."""
    values = {
        key: read(f"{where}: {key}", table[key]) for key, read in _READERS.items() if key in table
    }
    if ("eab_key_id" in values) != ("eab_hmac_key_file" in values):
        raise ConfigurationError(f"{where}: eab_key_id and eab_hmac_key_file go together.")
    return values


def _further_cas(
    path: Path, tables: object, default: Mapping[str, Any]
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Return the ``[ca.NAME]`` tables by directory, and their names. Raises as the caller."""
    if not isinstance(tables, dict) or not all(isinstance(one, dict) for one in tables.values()):
        raise ConfigurationError(f"{path}: further CAs are written as [ca.NAME] tables.")
    blank = dict.fromkeys(_OF_ONE_CA)
    shared = {key: default[key] for key in ("contact", "proxy") if key in default}
    cas: dict[str, dict[str, Any]] = {}
    names = {}
    for name, table in tables.items():
        where = f"{path}: ca.{name}"
        check_keys(where, table, tuple(_READERS))
        usual = _known_directory(name)
        url = check_directory(f"{where}: directory", table.get("directory", usual))
        if url == default["directory"] or url in cas:
            raise ConfigurationError(f"{where} has the directory of another CA of this file.")
        cas[url] = {**blank, "terms_agreed": False, **shared, **_members(where, table)}
        cas[url]["directory"] = names[name] = url
    return cas, names


def _known_directory(name: str) -> str | None:
    from shared.acme.directories import CERTIFICATE_AUTHORITIES

    return CERTIFICATE_AUTHORITIES.get(name)


def certificate_from(
    texts: Sequence[str],
    challenge: str,
    *,
    identifier: str | None = None,
    **more: Any,
) -> DirectCertificate:
    """Return a checked certificate.

    Args:
        texts: names as U-labels or A-labels; the first one gives the id unless ``identifier`` does.

    Raises:
        NameRefused, PolicyError: names no public CA may sign, or a challenge that cannot be done.
        ConfigurationError: an unknown key algorithm.
    """
    names = parse_names(texts)
    if challenge not in CHALLENGES:
        raise PolicyError(
            f"{challenge!r:.40} is no challenge of direct mode; http-01 needs a server that the "
            "CA can reach.",
            do=f"Use one of {', '.join(CHALLENGES)}.",
        )
    if (algorithm := more.get("key_algorithm")) is not None and algorithm not in KEY_ALGORITHMS:
        raise ConfigurationError(
            f"{algorithm!r:.40} is no key algorithm.", do=f"Use one of {', '.join(KEY_ALGORITHMS)}."
        )
    first = parse_names(texts[:1])[0].certificate_id
    return DirectCertificate(
        check_certificate_id(identifier or first),
        tuple(str(name) for name in names),
        challenge,
        **{key: value for key, value in more.items() if value is not None},
    )


def _certificate(where: str, table: dict[str, Any]) -> DirectCertificate:
    check_keys(where, table, _OF_A_CERTIFICATE)
    if "names" not in table or "challenge" not in table:
        raise ConfigurationError(f"{where} needs names and challenge.")
    values: dict[str, Any] = {
        key: text_of(f"{where}: {key}", value)
        for key, value in table.items()
        if key not in ("names", "ca")
    }
    if (cas := table.get("ca")) is not None:
        values["ca"] = texts_of(f"{where}: ca", [cas] if isinstance(cas, str) else cas)
    names = texts_of(f"{where}: names", table["names"])
    challenge, identifier = values.pop("challenge"), values.pop("certificate", None)
    try:
        return certificate_from(names, challenge, identifier=identifier, **values)
    except (ConfigurationError, PolicyError) as error:
        raise ConfigurationError(f"{where}: {error.what}", do=error.do) from error


def check_directory(where: str, value: object) -> str:
    """Return an https URL. Raises ``ConfigurationError``."""
    text = text_of(where, value)
    try:
        parts = urlsplit(text)
        good = parts.scheme == "https" and bool(parts.hostname) and (parts.port or 443) > 0
    except ValueError:
        good = False
    if not good:
        raise ConfigurationError(f"{where} {text!r:.80} is no https URL of an ACME directory.")
    return text


def check_contact(where: str, value: object) -> str:
    """Return an address as ``mailto:ops@example.com``. Raises ``ConfigurationError``."""
    text = text_of(where, value)
    if not text.startswith("mailto:") or text.count("@") != 1 or set(text) & set(" ,?\r\n"):
        raise ConfigurationError(
            f"{where}: {text!r:.80} is no contact; it looks like mailto:ops@example.com."
        )
    return text


def _contacts(where: str, value: object) -> tuple[str, ...]:
    return tuple(check_contact(where, one) for one in texts_of(where, value))


def _absolute(where: str, value: object) -> Path:
    path = path_of(where, value)
    if not path.is_absolute():
        raise ConfigurationError(f"{where} is no absolute path.")
    return path


def _proxy(where: str, value: object) -> str:
    from internal_puller.settings.proxies import check_proxy_url

    return "none" if value == "none" else check_proxy_url(where, value)


_READERS: Final[dict[str, Callable[[str, object], Any]]] = {
    "directory": check_directory,
    "terms_agreed": truth_of,
    "contact": _contacts,
    "ca_root": _absolute,
    "proxy": _proxy,
    "profile": text_of,
    "preferred_chain": text_of,
    "eab_key_id": text_of,
    "eab_hmac_key_file": _absolute,
}
_OF_ONE_CA: Final = ("ca_root", "profile", "preferred_chain", "eab_key_id", "eab_hmac_key_file")
_OF_A_CERTIFICATE: Final = (
    *("certificate", "names", "challenge", "key_algorithm", "profile", "preferred_chain", "ca"),
)
