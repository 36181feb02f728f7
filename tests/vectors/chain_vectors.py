"""Bundles with one chain each: what may stand in it, in which order, and how it is spelled."""

from __future__ import annotations

import ipaddress
import textwrap

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from shared.contract.x509 import chain_to_pem
from tests.vectors.bundle_head import bundle_vector
from tests.vectors.der import ec_spki, explicit_p256, point, with_sha1, with_spki
from tests.vectors.rsa_keys import rsa_key
from tests.vectors.vector import Vector
from tests.vectors.world import (
    INTERMEDIATE,
    NAME,
    NOW,
    ROOT,
    YEAR,
    Key,
    certificate,
    changed,
    curve_key,
    ec_key,
    ed25519_key,
    intermediate,
    leaf,
    pkcs8,
)

Chain = tuple[x509.Certificate, ...]

_UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.32473.1"), b"\x05\0")
_ADDRESS = x509.IPAddress(ipaddress.ip_address("192.0.2.1"))
_POLICIES = x509.CertificatePolicies(
    [x509.PolicyInformation(x509.ObjectIdentifier("2.23.140.1.2.1"), None)]
)
_CLIENT = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
_SERVER = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
_ANY = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE])
_LONG = {"begin": NOW - YEAR, "end": NOW + YEAR}


def _constraints(*, permitted: str = "", excluded: str = "") -> x509.NameConstraints:
    return x509.NameConstraints(
        [x509.DNSName(permitted)] if permitted else None,
        [x509.DNSName(excluded)] if excluded else None,
    )


def _identifier(label: str) -> x509.SubjectKeyIdentifier:
    return x509.SubjectKeyIdentifier.from_public_key(ec_key(label).public_key())


def _with(*extensions: tuple[x509.ExtensionType, bool]) -> Chain:
    """The usual leaf under an issuer with these extensions."""
    return (leaf(), intermediate(extensions=extensions))


def through(count: int) -> Chain:
    """A leaf under ``count`` issuers, one signed by the next, the last by the root."""
    names = [f"Vector CA {number}" for number in range(1, count + 1)]
    above = [*names[1:], "Vector Root"]
    cas = [
        certificate(name, issuer, ca=True, **_LONG)  # type: ignore[arg-type]
        for name, issuer in zip(names, above, strict=True)
    ]
    return (leaf(issuer=names[0]), *cas)


def _cross_signed(**changes: int) -> x509.Certificate:
    """The trusted root's name and key, certified by an older root."""
    return certificate("Vector Root", "Older Root", ca=True, **(_LONG | changes))  # type: ignore[arg-type]


def _signed_by(key: Key, digest: hashes.HashAlgorithm | None = None) -> Chain:
    below = leaf(signed_by=key, identified_by=key, digest=digest)
    return (below, intermediate(key=key))


def _good_chains() -> dict[str, tuple[str, Chain]]:
    bare_san = x509.SubjectAlternativeName([x509.DNSName(NAME)])
    return {
        "two-issuers": ("two issuers, one above the other", through(2)),
        "ten": ("ten certificates, as many as there may be", through(9)),
        "cross-signed": (
            "above the certificate that the trusted root issued stands that root, cross-signed",
            (leaf(), INTERMEDIATE, _cross_signed()),
        ),
        "path-length": (
            "an issuer that allows one more below it",
            _path_length(1),
        ),
        "issuer-server-auth": ("an issuer that is for TLS servers", _with((_SERVER, False))),
        "issuer-any-usage": ("an issuer that is for any use", _with((_ANY, False))),
        "issuer-rsa": ("signed with RSA on SHA-256", _signed_by(rsa_key(2048))),
        "issuer-p521": ("an issuer on P-521", _signed_by(curve_key(ec.SECP521R1()))),
        "sha384": ("signed with ECDSA on SHA-384", (leaf(digest=hashes.SHA384()), INTERMEDIATE)),
        "sha512": ("signed with RSA on SHA-512", _signed_by(rsa_key(2048), hashes.SHA512())),
        "unknown-extension": (
            "an unknown extension that is not critical, in the leaf and in its issuer",
            (leaf(extensions=((_UNKNOWN, False),)), intermediate(extensions=((_UNKNOWN, False),))),
        ),
        "no-key-usage": ("a leaf without keyUsage", (leaf(without=(x509.KeyUsage,)), INTERMEDIATE)),
        "no-constraints": (
            "a leaf without basicConstraints",
            (leaf(without=(x509.BasicConstraints,)), INTERMEDIATE),
        ),
        "no-key-identifiers": (
            "neither the leaf nor its issuer says whose key signed it",
            (
                leaf(without=(x509.AuthorityKeyIdentifier,)),
                intermediate(without=(x509.AuthorityKeyIdentifier,)),
            ),
        ),
        "names-not-critical": (
            "subjectAltName that is not critical",
            (leaf(extensions=((bare_san, False),)), INTERMEDIATE),
        ),
        "usage-critical": (
            "extendedKeyUsage that is critical",
            (leaf(extensions=((_SERVER, True),)), INTERMEDIATE),
        ),
        "name-constraints-other": (
            "nameConstraints on a directory name that are not critical",
            _with((x509.NameConstraints([x509.DirectoryName(x509.Name([]))], None), False)),
        ),
        "another-key-identifier": (
            "the leaf says that another key signed it",
            (leaf(identified_by="Vector Root"), INTERMEDIATE),
        ),
        "name-constraints": (
            "an issuer that may sign names like this one",
            _with((_constraints(permitted="intra.example.com"), True)),
        ),
    }


def _path_length(length: int) -> Chain:
    below, first, second = through(2)
    limited = certificate("Vector CA 2", "Vector Root", ca=True, path_length=length, **_LONG)  # type: ignore[arg-type]
    assert limited.subject == second.subject
    return (below, first, limited)


def _bad_chains() -> dict[str, tuple[str, Chain]]:
    usual = leaf()
    below, first, second = through(2)
    stranger = certificate("Stranger CA", "Stranger Root", ca=True, **_LONG)  # type: ignore[arg-type]
    unusual = curve_key(ec.SECP256R1())
    return {
        "wrong-order": ("two issuers, the upper one first", (below, second, first)),
        "unrelated": ("a certificate of somebody else at the end", (*_with(), stranger)),
        "unrelated-between": (
            "a certificate of somebody else in between",
            (usual, stranger, INTERMEDIATE),
        ),
        "duplicate-issuer": ("the issuer twice", (usual, INTERMEDIATE, INTERMEDIATE)),
        "duplicate-leaf": ("the leaf twice", (usual, usual, INTERMEDIATE)),
        "with-root": ("the root at the end", (usual, INTERMEDIATE, ROOT)),
        "cross-signed-expired": (
            "above the certificate that the trusted root issued stands one that has expired",
            (usual, INTERMEDIATE, _cross_signed(end=NOW - 1)),
        ),
        "issuer-begins-later": (
            "an issuer that begins in a second",
            (usual, intermediate(begin=NOW + 1)),
        ),
        "issuer-client-auth": ("an issuer that is for TLS clients only", _with((_CLIENT, False))),
        "issuer-unknown-critical": (
            "an unknown critical extension in the issuer",
            _with((_UNKNOWN, True)),
        ),
        "issuer-usage-critical": (
            "an issuer whose extendedKeyUsage is critical",
            _with((_SERVER, True)),
        ),
        "issuer-identifier-critical": (
            "an issuer whose own key identifier is critical",
            (
                usual,
                intermediate(
                    without=(x509.SubjectKeyIdentifier,),
                    extensions=((_identifier("Vector Intermediate"), True),),
                ),
            ),
        ),
        "leaf-name-constraints": (
            "a leaf with nameConstraints",
            (leaf(extensions=((_constraints(permitted="example.com"), True),)), INTERMEDIATE),
        ),
        "name-constraints-directory": (
            "critical nameConstraints on a directory name, which the leaf would keep",
            _with((x509.NameConstraints([x509.DirectoryName(x509.Name([]))], None), True)),
        ),
        "policies-critical": (
            "critical certificatePolicies in the leaf",
            (leaf(extensions=((_POLICIES, True),)), INTERMEDIATE),
        ),
        "issuer-no-constraints": (
            "an issuer without basicConstraints",
            (usual, intermediate(without=(x509.BasicConstraints,))),
        ),
        "issuer-constraints-not-critical": (
            "an issuer whose basicConstraints are not critical",
            _with((x509.BasicConstraints(ca=True, path_length=None), False)),
        ),
        "issuer-no-key-usage": (
            "an issuer without keyUsage",
            (usual, intermediate(without=(x509.KeyUsage,))),
        ),
        "issuer-no-cert-sign": (
            "an issuer whose keyUsage has no keyCertSign",
            (usual, intermediate(bits=("digital_signature", "crl_sign"))),
        ),
        "issuer-rsa-1024": ("an issuer with RSA of 1024 bits", _signed_by(rsa_key(1024))),
        "issuer-ed25519": ("signed with Ed25519", _signed_by(ed25519_key())),
        "path-length": ("an issuer that allows none below it", _path_length(0)),
        "name-constraints-permitted": (
            "an issuer that may sign other names only",
            _with((_constraints(permitted="example.org"), True)),
        ),
        "name-constraints-excluded": (
            "an issuer that may not sign this name",
            _with((_constraints(excluded="example.com"), True)),
        ),
        "leaf-unknown-critical": (
            "an unknown critical extension in the leaf",
            (leaf(extensions=((_UNKNOWN, True),)), INTERMEDIATE),
        ),
        "leaf-is-ca": (
            "the leaf is a CA by its basicConstraints",
            (leaf(extensions=((x509.BasicConstraints(True, None), True),)), INTERMEDIATE),
        ),
        "leaf-cert-sign": (
            "the leaf's keyUsage has keyCertSign",
            (leaf(bits=("digital_signature", "key_cert_sign")), INTERMEDIATE),
        ),
        "leaf-any-usage": (
            "the leaf is for any use, and does not say TLS servers",
            (leaf(extensions=((_ANY, False),)), INTERMEDIATE),
        ),
        "sha1": (
            "signed with RSA on SHA-1",
            (
                with_sha1(_signed_by(rsa_key(2048))[0], rsa_key(2048)),
                intermediate(key=rsa_key(2048)),
            ),
        ),
        "sha224": ("signed with ECDSA on SHA-224", _signed_by(unusual, hashes.SHA224())),
    }


def _leaf_keys() -> dict[str, tuple[str, Key]]:
    return {
        "rsa-512": ("RSA of 512 bits", rsa_key(512)),
        "rsa-1024": ("RSA of 1024 bits", rsa_key(1024)),
        "rsa-exponent": ("RSA with the public exponent 257", rsa_key(2048, 257)),
        "p521": ("EC on P-521", curve_key(ec.SECP521R1())),
        "secp256k1": ("EC on secp256k1", curve_key(ec.SECP256K1())),
        "ed25519": ("Ed25519", ed25519_key()),
    }


def _spelled() -> dict[str, tuple[str, str]]:
    """Other spellings of the same chain, RFC 7468 or not."""
    text = chain_to_pem((leaf(), INTERMEDIATE))
    return {
        "crlf": ("lines that end with CR LF", text.replace("\n", "\r\n")),
        "one-line": ("base64 in one line", _lines_of(4096)),
        "lines-of-76": ("base64 in lines of 76 characters, as in MIME", _lines_of(76)),
        "no-newline": ("no newline at the end", text[:-1]),
        "two-newlines": ("an empty line at the end", text + "\n"),
        "empty-line": ("an empty line in between", text.replace("-\n-", "-\n\n-")),
        "space": (
            "a space at the end of a line",
            text.replace("CERTIFICATE-----\n", "CERTIFICATE----- \n", 1),
        ),
        "text-behind": ("text behind the chain", text + "# end\n"),
        "x509-label": ("an older label", text.replace("CERTIFICATE", "X509 CERTIFICATE")),
    }


def _lines_of(width: int) -> str:
    blocks = []
    for block in chain_to_pem((leaf(), INTERMEDIATE)).split("-----END CERTIFICATE-----\n")[:-1]:
        head, *body = block.splitlines()
        lines = textwrap.wrap("".join(body), width)
        blocks.append("\n".join([head, *lines, "-----END CERTIFICATE-----\n"]))
    return "".join(blocks)


def _good_keys() -> dict[str, tuple[str, Key]]:
    return {
        "p384": ("EC on P-384", curve_key(ec.SECP384R1())),
        "rsa-2048": ("RSA of 2048 bits", rsa_key(2048)),
        "rsa-3072": ("RSA of 3072 bits", rsa_key(3072)),
        "rsa-4096": ("RSA of 4096 bits", rsa_key(4096)),
    }


def _with_key(key: Key) -> bytes:
    return changed(chain=(leaf(key=key), INTERMEDIATE), key_der=pkcs8(key))


def _other_spki(name: str, comment: str, spki: bytes) -> Vector:
    other = with_spki(leaf(), spki, ec_key("Vector Intermediate"))
    return bundle_vector(
        name, "bundle/unsuitable-key", comment, changed(chain=(other, INTERMEDIATE))
    )


def vectors() -> list[Vector]:
    own = ec_key("Vector Leaf")
    return [
        *(
            bundle_vector(f"good-chain-{name}", "success", comment, changed(chain=chain))
            for name, (comment, chain) in _good_chains().items()
        ),
        *(
            bundle_vector(f"good-key-{name}", "success", comment, _with_key(key))
            for name, (comment, key) in _good_keys().items()
        ),
        *(
            bundle_vector(f"chain-{name}", "bundle/untrusted-chain", comment, changed(chain=chain))
            for name, (comment, chain) in _bad_chains().items()
        ),
        *(
            bundle_vector(f"leaf-{name}", "bundle/unsuitable-key", comment, _with_key(key))
            for name, (comment, key) in _leaf_keys().items()
        ),
        bundle_vector(
            "chain-leaf-only-address",
            "bundle/untrusted-chain",
            "no DNS name in the leaf",
            changed(chain=(leaf(sans=(_ADDRESS,)), INTERMEDIATE), members={"names": [NAME]}),
        ),
        _other_spki(
            "leaf-explicit-parameters",
            "P-256 by its parameters, not by its name",
            ec_spki(point(own), explicit_p256()),
        ),
        _other_spki(
            "leaf-compressed-point",
            "a point of which one half is left out",
            ec_spki(point(own, PublicFormat.CompressedPoint)),
        ),
        *(
            bundle_vector(f"pem-{name}", "bundle/malformed", comment, changed(chain_pem=text))
            for name, (comment, text) in _spelled().items()
        ),
    ]
