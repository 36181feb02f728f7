"""The account key in the forms that JWS needs (RFC 8555 section 6.2)."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric import rsa
from josepy.b64 import b64encode
from josepy.jwa import ES256, ES384, RS256, JWASignature
from josepy.jwk import JWK, JWKEC, JWKRSA

from shared.acme.keys import AccountKey

_EC_ALGORITHMS = {"secp256r1": ES256, "secp384r1": ES384}


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
