"""Keys, CSRs and chains, with real certificates."""

from __future__ import annotations

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from shared.contract.chain_rules import check_chain
from shared.contract.errors import (
    KeyMismatch,
    MalformedBundle,
    NameMismatch,
    OutsideValidity,
    UnsuitableKey,
    UntrustedChain,
)
from shared.contract.identifiers import parse_names
from shared.contract.key_policy import KeyAlgorithm, generate_key, key_to_der, load_key
from shared.contract.x509 import (
    chain_to_pem,
    check_key,
    check_names,
    check_validity,
    dns_names,
    load_chain,
    load_roots,
    make_csr,
    read_certificates,
    spki_sha256,
)

CA = trustme.CA()
ROOTS = load_roots(CA.cert_pem.bytes())
LEAF = load_chain(CA.issue_cert("www.intra.example.com").cert_chain_pems[0].bytes().decode())[0]
BEGIN, END = LEAF.not_valid_before_utc.timestamp(), LEAF.not_valid_after_utc.timestamp()
MIDDLE = (BEGIN + END) / 2


@pytest.mark.parametrize("algorithm", list(KeyAlgorithm)[:4])  # 4096: with the lab, it is slow
def test_key_and_csr(algorithm: KeyAlgorithm) -> None:
    key = generate_key(algorithm)
    names = parse_names(["b.example.com", "*.example.com"])
    csr = make_csr(key, names)
    assert csr.is_signature_valid
    assert dns_names(csr) == names
    assert [extension.oid for extension in csr.extensions] == [x509.SubjectAlternativeName.oid]
    assert spki_sha256(csr) == spki_sha256(load_key(key_to_der(key)))
    size = int(algorithm.rpartition("-")[2].lstrip("p"))
    assert isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey)
    assert key.key_size == size


def test_chain_is_verified_at_a_moment() -> None:
    check_chain([LEAF], ROOTS, MIDDLE)
    other = load_roots(trustme.CA(organization_name="Another").cert_pem.bytes())
    with pytest.raises(UntrustedChain, match=r'ends at "trustme.*", which is not trusted here'):
        check_chain([LEAF], other, MIDDLE)
    with pytest.raises(UntrustedChain, match="has expired or is not valid yet"):
        check_chain([LEAF], ROOTS, END + 86400)
    with pytest.raises(UntrustedChain):
        check_chain([LEAF], [], MIDDLE)


def test_validity_with_grace_at_the_beginning_only() -> None:
    for moment in (BEGIN - 299, BEGIN, MIDDLE, END - 1):
        check_validity(LEAF, moment)
    for moment in (BEGIN - 301, END, END + 1):
        with pytest.raises(OutsideValidity):
            check_validity(LEAF, moment)


def test_names_are_exactly_the_set() -> None:
    check_names(LEAF, ["www.intra.example.com"])
    for other in ([], ["www.intra.example.com", "b.example.com"], ["b.example.com"]):
        with pytest.raises(NameMismatch):
            check_names(LEAF, other)


def test_key_of_another_leaf() -> None:
    with pytest.raises(KeyMismatch):
        check_key(generate_key(KeyAlgorithm.EC_P256), LEAF)
    with pytest.raises(UnsuitableKey):
        load_key(b"no key")


def test_a_root_that_does_not_parse_spoils_no_other() -> None:
    broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    pem = broken.encode() + CA.cert_pem.bytes() + b"\xff"
    assert load_roots(pem) == ROOTS


def test_pem_and_nothing_else() -> None:
    pem = chain_to_pem([LEAF])
    assert load_chain(pem) == (LEAF,)
    one_line = pem.replace("\n", "").replace("E-----", "E-----\n").replace("-----END", "\n-----END")
    for text in (pem.replace("\n", "\r\n"), one_line, pem[:-1], pem + "\n", "x" + pem, "é" + pem):
        with pytest.raises(MalformedBundle):
            load_chain(text)
        assert read_certificates(text) == (LEAF,)
    for text in ("", pem[:-30], pem * 500):
        for read in (load_chain, read_certificates):
            with pytest.raises(MalformedBundle):
                read(text)
    with pytest.raises(MalformedBundle):
        load_chain(pem * 11)
