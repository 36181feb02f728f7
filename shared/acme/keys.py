"""The account key: made, read, and in the forms that JWS needs (RFC 8555 section 6.2)."""

from __future__ import annotations

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from josepy.b64 import b64encode
from josepy.jwa import ES256, ES384, RS256, JWASignature
from josepy.jwk import JWK, JWKEC, JWKRSA

from shared.errors import ConfigurationError

AccountKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

_EC_ALGORITHMS = {"secp256r1": ES256, "secp384r1": ES384}


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
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in _EC_ALGORITHMS:
        return key
    raise ConfigurationError("The ACME account key is not EC P-256, P-384 or RSA 2048 and more.")


def to_jwk(key: AccountKey) -> JWK:
    """Return the key as the JSON Web Key that signs requests."""
    if isinstance(key, rsa.RSAPrivateKey):
        return JWKRSA(key=key)
    return JWKEC(key=key)


def signature_algorithm(key: AccountKey) -> JWASignature:
    """Return the JWS algorithm that fits the key."""
    return RS256 if isinstance(key, rsa.RSAPrivateKey) else _EC_ALGORITHMS[key.curve.name]


def key_authorization(token: str, jwk: JWK) -> str:
    """Return token, dot, JWK thumbprint (RFC 8555 section 8.1, RFC 7638)."""
    return f"{token}.{thumbprint(jwk)}"


def thumbprint(jwk: JWK) -> str:
    """Return the JWK thumbprint (RFC 7638) in base64url, 43 characters."""
    return b64encode(jwk.thumbprint()).decode("ascii")
