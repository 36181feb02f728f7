"""The agent's secret files: signing key, account key, relay TLS key; 0600 from birth."""

from __future__ import annotations

import ipaddress
import os
import secrets
import stat
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from external_agent.settings.config import Settings
from shared.acme.keys import AccountKey, generate_account_key, load_account_key
from shared.contract.errors import ConfigurationError, LooseFileMode, RelayError
from shared.contract.signing import SEED_SIZE, SigningKey
from shared.contract.x509 import spki_sha256
from shared.host.trusted_file import SECRET, find_trusted

SIGNING_KEY_FILE = "agent-signing.key"
ACCOUNT_KEY_FILE = "account.key"
NEXT_ACCOUNT_KEY_FILE = "account.key.next"
TLS_KEY_FILE = "relay-tls.key"
TLS_CERTIFICATE_FILE = "relay-tls.pem"
FILES = (SIGNING_KEY_FILE, ACCOUNT_KEY_FILE, TLS_KEY_FILE, TLS_CERTIFICATE_FILE)
_TLS_YEARS = 10


@dataclass(frozen=True, slots=True)
class AgentKeys:
    """What the agent reads at start, with the modes checked."""

    signing: SigningKey
    account: AccountKey


def write_secret(path: Path, content: bytes) -> None:
    """Create ``path`` with mode 0600, durably; what exists is never replaced.

    Raises:
        ConfigurationError: it exists already, or cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
            with os.fdopen(descriptor, "wb", closefd=False) as file:
                file.write(content)
                file.flush()
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        _sync_directory(path.parent)
    except FileExistsError:
        raise ConfigurationError(f"{path} exists already and was not replaced.") from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}.") from error


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(path: Path) -> None:
    """Make the state directory with mode 0700, or check the one that is there.

    Raises:
        ConfigurationError: not a directory, or cannot be made.
        LooseFileMode: others may enter it.
    """
    try:
        for parent in reversed(path.parents):
            if not parent.exists():
                parent.mkdir(mode=0o755)  # under any umask: what lies in it is trusted
        if not path.exists():
            path.mkdir(mode=0o700)
            path.chmod(0o700)
            _sync_directory(path.parent)  # or a crash takes the keys with the directory
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be made: {error.strerror}.") from error
    check_directory(path)


def check_directory(path: Path) -> None:
    """
    Raises:
        ConfigurationError: there is no such directory.
        LooseFileMode: group or others have any permission, or it belongs to somebody else.
    """
    try:
        status = path.stat(follow_symlinks=True)
    except OSError as error:
        raise ConfigurationError(
            f"The state directory {path} cannot be used: {error.strerror}.",
            do="Run external-agent init first.",
        ) from error
    if not stat.S_ISDIR(status.st_mode):
        raise ConfigurationError(f"{path} is not a directory.")
    _refuse_loose(path, status)


def _refuse_loose(path: Path, status: os.stat_result) -> None:
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        raise LooseFileMode(f"{path} has mode {mode:04o}, so others can reach it.")
    if os.geteuid() != 0 and status.st_uid not in (os.geteuid(), 0):
        raise LooseFileMode(f"{path} belongs to user {status.st_uid}, not to this service.")


def read_secret(path: Path) -> bytes:
    """Return the content of a secret file.

    Raises:
        ConfigurationError: missing, unreadable, not a regular file.
        LooseFileMode: others may read it, or change it or what leads to it.
    """
    content = find_trusted(path, "key file", mask=SECRET)
    if content is None:
        raise ConfigurationError(
            f"There is no key file {path}.",
            do="Restore it from a backup, or run external-agent init for a new agent.",
        )
    return content


def load_keys(directory: Path) -> AgentKeys:
    """Read the signing key and the account key.

    Raises:
        ConfigurationError, LooseFileMode: see :func:`read_secret`.
    """
    check_directory(directory)
    seed = read_secret(directory / SIGNING_KEY_FILE)
    if len(seed) != SEED_SIZE:
        raise ConfigurationError(
            f"{directory / SIGNING_KEY_FILE} has {len(seed)} octets, not {SEED_SIZE}."
        )
    try:
        account = load_account_key(read_secret(directory / ACCOUNT_KEY_FILE))
    except (RelayError, ValueError) as error:
        if isinstance(error, ConfigurationError):
            raise
        raise ConfigurationError(f"{directory / ACCOUNT_KEY_FILE} holds no key.") from error
    return AgentKeys(SigningKey(seed), account)


@dataclass(frozen=True, slots=True)
class AccountKeys:
    """``following`` is there while a roll-over is under way (RFC 8555 section 7.3.5)."""

    current: AccountKey
    following: AccountKey | None = None


def load_account_keys(directory: Path) -> AccountKeys:
    """
    Raises:
        ConfigurationError, LooseFileMode: see :func:`read_secret`.
    """
    following = directory / NEXT_ACCOUNT_KEY_FILE
    return AccountKeys(
        load_account_key(read_secret(directory / ACCOUNT_KEY_FILE)),
        load_account_key(read_secret(following)) if following.exists() else None,
    )


def begin_roll_over(directory: Path) -> AccountKeys:
    """Make the following account key durable, if there is none yet, and return both.

    Raises:
        ConfigurationError, LooseFileMode: it cannot be written, or see :func:`read_secret`.
    """
    if not (directory / NEXT_ACCOUNT_KEY_FILE).exists():
        write_secret(directory / NEXT_ACCOUNT_KEY_FILE, generate_account_key())
    return load_account_keys(directory)


def end_roll_over(directory: Path) -> None:
    """Let the following account key be the current one, by one durable rename."""
    (directory / NEXT_ACCOUNT_KEY_FILE).replace(directory / ACCOUNT_KEY_FILE)
    _sync_directory(directory)


def make_keys(directory: Path, host: str, now: float) -> None:
    """Make all the agent's keys in an empty state directory.

    Args:
        host: of the relay URL, for the TLS certificate.
        now: unix seconds.
    """
    write_secret(directory / SIGNING_KEY_FILE, secrets.token_bytes(SEED_SIZE))
    write_secret(directory / ACCOUNT_KEY_FILE, generate_account_key())
    key = ec.generate_private_key(ec.SECP256R1())
    write_secret(
        directory / TLS_KEY_FILE,
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )
    write_secret(directory / TLS_CERTIFICATE_FILE, _self_made_certificate(key, host, now))


def _self_made_certificate(key: ec.EllipticCurvePrivateKey, host: str, now: float) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "split-horizon-relay agent")])
    begin = datetime.fromtimestamp(now, UTC) - timedelta(days=1)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=365 * _TLS_YEARS))
        .add_extension(x509.SubjectAlternativeName([_san(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )


def tls_files(settings: Settings) -> tuple[Path, Path] | None:
    """Return certificate and key of the relay listener; ``None`` when a proxy does TLS."""
    if settings.relay.tls == "none":
        return None
    if settings.relay.tls == "files":
        assert settings.relay.certificate_file and settings.relay.key_file
        return settings.relay.certificate_file, settings.relay.key_file
    directory = settings.state_directory
    return directory / TLS_CERTIFICATE_FILE, directory / TLS_KEY_FILE


def token_pin(settings: Settings) -> str | None:
    """Return the pin that tokens carry: of the self-made certificate only.

    With a public certificate, too: it is served before the first one is there. A puller takes what
    is pinned, or what its roots vouch for.

    Files of an operator may be renewed with another key; a pin on them would lock pullers out.
    """
    if settings.relay.tls not in ("self", "acme"):
        return None
    return certificate_pin(settings.state_directory / TLS_CERTIFICATE_FILE)


def _san(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def certificate_pin(path: Path) -> str:
    """Return the hex SHA-256 of the SPKI of the first certificate in a PEM file.

    Raises:
        ConfigurationError: no certificate there.
    """
    try:
        return spki_sha256(x509.load_pem_x509_certificate(path.read_bytes()))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} holds no certificate that can be read.") from error
