"""The account key: made and read; what JWS makes of it is in jwk.py."""

from __future__ import annotations

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from shared.contract.errors import ConfigurationError

AccountKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

_CURVES = ("secp256r1", "secp384r1")


def generate_account_key() -> bytes:
    """Return a new P-256 key as unencrypted PKCS#8 PEM; its owner keeps it at mode 0600."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def load_account_key(pem: bytes) -> AccountKey:
    """Return the key in `pem`.

    Raises:
        ConfigurationError: not an unencrypted EC P-256, P-384 or RSA key of 2048 bits or more.
    """
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigurationError(
            "The ACME account key does not parse as an unencrypted PEM private key.",
            do="Restore the account key file from its backup.",
        ) from error
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= 2048:
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in _CURVES:
        return key
    raise ConfigurationError("The ACME account key is not EC P-256, P-384 or RSA 2048 and more.")
