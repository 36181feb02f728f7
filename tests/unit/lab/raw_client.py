"""An ACME client that can be told to do everything wrong; it shares no code with the lab."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import ssl
from typing import Any, Self
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from tests.lab import LabCa
from tests.lab.challenge_site import ChallengeSite

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def jwk_of(key: Key) -> dict[str, str]:
    public = key.public_key()
    if isinstance(public, ec.EllipticCurvePublicKey):
        size = (public.curve.key_size + 7) // 8
        numbers = public.public_numbers()
        name = {32: "P-256", 48: "P-384", 66: "P-521"}[size]
        x, y = (b64(n.to_bytes(size)) for n in (numbers.x, numbers.y))
        return {"crv": name, "kty": "EC", "x": x, "y": y}
    if isinstance(public, rsa.RSAPublicKey):
        modulus = public.public_numbers().n
        return {"e": "AQAB", "kty": "RSA", "n": b64(modulus.to_bytes(public.key_size // 8))}
    raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return {"crv": "Ed25519", "kty": "OKP", "x": b64(raw)}


def thumbprint(key: Key) -> str:
    canonical = json.dumps(jwk_of(key), sort_keys=True, separators=(",", ":"))
    return b64(hashlib.sha256(canonical.encode()).digest())


def sign(key: Key, data: bytes) -> tuple[str, bytes]:
    if isinstance(key, rsa.RSAPrivateKey):
        return "RS256", key.sign(data, padding.PKCS1v15(), hashes.SHA256())
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "EdDSA", key.sign(data)
    size = (key.curve.key_size + 7) // 8
    name, digest = {
        32: ("ES256", hashes.SHA256()),
        48: ("ES384", hashes.SHA384()),
        66: ("ES512", hashes.SHA512()),
    }[size]
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(digest)))
    return name, r.to_bytes(size) + s.to_bytes(size)


def jws(key: Key, payload: Any, **protected: Any) -> dict[str, str]:
    """Return a flattened JWS; `payload` is bytes or something for JSON."""
    protected.setdefault("alg", sign(key, b"")[0])
    head = b64(json.dumps(protected).encode())
    body = b64(payload if isinstance(payload, bytes) else json.dumps(payload).encode())
    signature = sign(key, f"{head}.{body}".encode())[1]
    return {"protected": head, "payload": body, "signature": b64(signature)}


def make_csr(key: Any, *names: str) -> x509.CertificateSigningRequest:
    san = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.add_extension(san, critical=False).sign(key, digest)


def der(thing: Any) -> bytes:
    return thing.public_bytes(serialization.Encoding.DER)


class Reply:
    """An answer, read to its end."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def problem(self) -> str:
        assert self.headers["Content-Type"] == "application/problem+json", self.body
        return str(self.json["type"]).removeprefix("urn:ietf:params:acme:error:")


class RawClient:
    """One account's view of a CA, over one kept connection."""

    def __init__(self, ca: LabCa, key: Key | None = None) -> None:
        self.ca = ca
        self.key = key or new_key()
        self.kid: str | None = None
        self.nonce: str | None = None
        context = ssl.create_default_context(cadata=ca.tls_root_pem)
        self._connection = http.client.HTTPSConnection(
            ca.host, ca.port, context=context, timeout=10
        )
        self.directory = self.request("GET", ca.directory_url).json

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._connection.close()

    def request(self, method: str, url: str, body: bytes | None = None, **headers: str) -> Reply:
        parts = urlsplit(url)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        try:
            self._connection.request(method, target, body, headers)
            reply = Reply(self._connection.getresponse())
        except (OSError, http.client.HTTPException):
            self._connection.close()
            raise
        self.nonce = reply.headers.get("Replay-Nonce", self.nonce)
        return reply

    def fresh_nonce(self) -> str:
        self.request("HEAD", self.directory["newNonce"])
        assert self.nonce is not None
        return self.nonce

    def signed(self, url: str, payload: Any = b"", /, **changes: Any) -> dict[str, str]:
        """Return a good JWS for `url`, with `changes` to its header; None removes a member."""
        key = changes.pop("key", self.key)
        nonce = self.nonce or self.fresh_nonce()
        who = {"kid": self.kid} if self.kid else {"jwk": jwk_of(key)}
        header = {"url": url, "nonce": nonce, **who, **changes}
        return jws(key, payload, **{k: v for k, v in header.items() if v is not None})

    def send(self, url: str, body: dict[str, Any], kind: str = "application/jose+json") -> Reply:
        self.nonce = None
        return self.request("POST", url, json.dumps(body).encode(), **{"Content-Type": kind})

    def post(self, url: str, payload: Any = b"", /, **changes: Any) -> Reply:
        return self.send(url, self.signed(url, payload, **changes))

    # --- the usual steps ---

    def register(self, **payload: Any) -> Reply:
        self.kid = None
        reply = self.post(self.directory["newAccount"], payload)
        self.kid = reply.headers.get("Location")
        return reply

    def new_order(self, *names: str, **more: Any) -> Reply:
        identifiers = [{"type": "dns", "value": name} for name in names]
        return self.post(self.directory["newOrder"], {"identifiers": identifiers, **more})

    def challenge(self, authorization: str, kind: str = "http-01") -> dict[str, Any]:
        shown = self.post(authorization).json
        return next(c for c in shown["challenges"] if c["type"] == kind)

    def answer(self, authorization: str, kind: str = "http-01") -> dict[str, Any]:
        """Ask for validation and return the authorization when it is settled."""
        self.post(self.challenge(authorization, kind)["url"], {})
        while (shown := self.post(authorization).json)["status"] == "pending":
            pass  # the CA holds each poll until something happened
        return shown

    def make_ready(self, site: ChallengeSite, *names: str, **more: Any) -> Reply:
        """Return an order whose authorizations are valid, by http-01."""
        order = self.new_order(*names, **more)
        assert order.status == 201, order.body
        for authorization in order.json["authorizations"]:
            token = self.challenge(authorization)["token"]
            site.present(token, f"{token}.{thumbprint(self.key)}")
            assert self.answer(authorization)["status"] == "valid"
        return order

    def finalize(self, order: Reply, csr: x509.CertificateSigningRequest) -> Reply:
        """Send a CSR and return the order when it is settled, or the refusal."""
        reply = self.post(order.json["finalize"], {"csr": b64(der(csr))})
        while reply.status == 200 and reply.json["status"] == "processing":
            reply = self.post(order.headers["Location"])
        return reply

    def obtain(self, site: ChallengeSite, *names: str, **more: Any) -> list[x509.Certificate]:
        """Return a chain for a fresh key."""
        order = self.make_ready(site, *names, **more)
        done = self.finalize(order, make_csr(new_key(), *names))
        assert done.json["status"] == "valid", done.body
        return x509.load_pem_x509_certificates(self.post(done.json["certificate"]).body)
