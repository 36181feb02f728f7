"""Retry-After, URLs, problem documents, renewal windows, keys: the parts without a network."""

from __future__ import annotations

import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from shared.acme.answers import (
    read_authorization,
    read_directory,
    read_order,
    read_order_list,
    read_time,
)
from shared.acme.ari import ari_certificate_id, read_renewal_window
from shared.acme.jwk import key_authorization, signature_algorithm, to_jwk
from shared.acme.keys import load_account_key
from shared.acme.network import Answer, Payload
from shared.acme.origin import Origin
from shared.acme.problems import describe, read_problem, refusal
from shared.acme.waiting import parse_retry_after
from shared.contract.errors import (
    ConfigurationError,
    IssuanceError,
    IssuanceRateLimited,
    IssuanceRejected,
    IssuanceUnavailable,
)

DIRECTORY = "https://ca.example.org/dir"
ORIGIN = Origin(DIRECTORY, frozenset())
ERROR = "urn:ietf:params:acme:error:"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        (" 120 ", 120),
        ("99999999999999999999", 604800),
        ("Mon, 23 Nov 2026 10:01:00 GMT", 60),
        ("Mon, 23 Nov 2026 09:00:00 GMT", 0),
        ("Mon, 23 Nov 9026 10:01:00 GMT", 604800),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        ("١٢", None),
        (None, None),
    ],
)
def test_retry_after(text: str | None, seconds: float | None) -> None:
    assert parse_retry_after(text, 1_795_428_000.0) == seconds


@pytest.mark.parametrize(
    "url",
    [
        "http://ca.example.org/x",
        "https://ca.example.org:444/x",
        "https://ca.example.org.evil.example.net/x",
        "https://ca.example.org@evil.example.net/x",
        "https://evil.example.net/ca.example.org",
        "https://ca.example.org\\@evil.example.net/",
        "https://ca.example.org/x\r\nHost: evil",
        "https://ca.example.org/a b",
        "https://ca.example.org:99999/x",
        "https://[::1/x",
        "//ca.example.org/x",
        "/x",
        "ftp://ca.example.org/x",
        "file:///etc/passwd",
        "https://ca.example.org/" + "x" * 3000,
        "https://çà.example.org/",
        "",
        None,
        7,
        ["https://ca.example.org/x"],
    ],
)
def test_urls_that_are_not_called(url: object) -> None:
    with pytest.raises(IssuanceRejected) as raised:
        ORIGIN.check(url, "finalize address")
    assert raised.value.what.isprintable()


@pytest.mark.parametrize(
    "url", ["https://ca.example.org/x", "https://CA.example.org:443/x?y=1", DIRECTORY]
)
def test_urls_of_the_origin_are_called(url: str) -> None:
    assert ORIGIN.check(url, "order") == url


@pytest.mark.parametrize("url", ["http://ca.example.org/dir", "ca.example.org", "", "https://"])
def test_a_directory_must_be_https(url: str) -> None:
    with pytest.raises(ConfigurationError, match="not an https URL"):
        Origin(url, frozenset(("127.0.0.1",)))


@pytest.mark.parametrize(
    ("status", "kind", "expected"),
    [
        (429, "", IssuanceRateLimited),
        (503, "rateLimited", IssuanceRateLimited),
        (403, "rateLimited", IssuanceRateLimited),
        (500, "", IssuanceUnavailable),
        (503, "serverInternal", IssuanceUnavailable),
        (400, "serverInternal", IssuanceUnavailable),
        (400, "badNonce", IssuanceUnavailable),
        (408, "", IssuanceUnavailable),
        (400, "malformed", IssuanceRejected),
        (403, "unauthorized", IssuanceRejected),
        (404, "", IssuanceRejected),
        (409, "alreadyReplaced", IssuanceRejected),
    ],
)
def test_the_class_follows_status_and_type(
    status: int, kind: str, expected: type[IssuanceError]
) -> None:
    document = {"type": ERROR + kind, "detail": "because"} if kind else None
    error = refusal("The CA refused", read_problem(document, status), 9.0)
    assert type(error) is expected
    assert error.retry_after == 9.0
    assert error.problem is not None
    assert error.problem["status"] == status


def test_subproblems_are_told_with_their_names() -> None:
    document = {
        "type": ERROR + "compound",
        "detail": "two went wrong",
        "subproblems": [
            {
                "type": ERROR + "caa",
                "detail": "forbidden",
                "identifier": {"type": "dns", "value": "app.example.org"},
            },
            {"type": ERROR + "dns", "detail": "no such name"},
            "nonsense",
        ],
    }
    assert describe(read_problem(document, 403)) == (
        "compound: two went wrong; app.example.org: caa: forbidden; dns: no such name"
    )


@pytest.mark.parametrize("document", [None, [], 7, "x", {"type": 7, "subproblems": {}}, {}])
def test_no_document_is_too_strange(document: object) -> None:
    assert describe(read_problem(document, 418)) == "HTTP status 418"


def test_subproblems_are_bounded() -> None:
    nested: dict[str, object] = {"detail": "x" * 5000}
    for _ in range(5):
        nested = {"detail": "y", "subproblems": [nested] * 50}
    assert len(describe(read_problem(nested, 400))) < 1000


def answer(body: bytes, retry_after: float | None = None) -> Answer:
    return Answer(DIRECTORY, body, {}, retry_after)


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"status":"pending"}',
        b'{"status":"odd","finalize":"https://ca.example.org/f"}',
        b'{"status":["pending"],"finalize":"https://ca.example.org/f"}',
        b'{"status":"ready","finalize":"https://ca.example.org/f","authorizations":["http://x/"]}',
        b'{"status":"valid","finalize":"https://ca.example.org/f","certificate":"https://x/"}',
    ],
)
def test_an_order_that_makes_no_sense_is_refused(body: bytes) -> None:
    with pytest.raises((IssuanceUnavailable, IssuanceRejected)):
        read_order(answer(body), "https://ca.example.org/order/1", ORIGIN)


def test_members_of_the_wrong_kind_are_passed_over() -> None:
    body = (
        b'{"status":"pending","finalize":"https://ca.example.org/f","expires":7,'
        b'"authorizations":[7,"https://ca.example.org/a"],"identifiers":[null,{"type":"dns",'
        b'"value":"APP.example.org"},{"type":"ip","value":"192.0.2.1"}]}'
    )
    order = read_order(answer(body), "https://ca.example.org/order/1", ORIGIN)
    assert order.authorizations == ("https://ca.example.org/a",)
    assert order.names == {"app.example.org"}
    assert order.expires is None


def test_a_wildcard_authorization_is_read_in_both_ways_of_writing_it() -> None:
    for identifier in (b"*.example.org", b"example.org"):
        body = (
            b'{"status":"pending","wildcard":true,"identifier":{"type":"dns","value":"%s"}}'
            % identifier
        )
        state = read_authorization(answer(body), "https://ca.example.org/a", ORIGIN)
        assert (state.identifier, state.wildcard) == ("example.org", True)
        assert state.name == "*.example.org"


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b'{"orders":["https://ca.example.org/o/1"]}', ["https://ca.example.org/o/1"]),
        (b'["https://ca.example.org/o/1"]', ["https://ca.example.org/o/1"]),
        (b"null", []),
        (b'{"orders":{}}', []),
        (b"nonsense", []),
    ],
)
def test_lists_of_orders(body: bytes, found: list[str]) -> None:
    assert read_order_list(answer(body), ORIGIN) == found


def test_a_directory_without_its_calls_is_refused() -> None:
    with pytest.raises(IssuanceRejected, match="newNonce"):
        read_directory(answer(b'{"meta":7}'), ORIGIN)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-11-23T10:00:00Z", 1_795_428_000.0),
        ("2026-11-23T10:00:00.123456789Z", 1_795_428_000.123456),
        ("2026-11-23T11:00:00+01:00", 1_795_428_000.0),
        ("2026-11-23T10:00:00", None),
        ("yesterday", None),
        (None, None),
    ],
)
def test_times(text: str | None, seconds: float | None) -> None:
    assert read_time(text) == seconds


WINDOW = b'{"suggestedWindow":{"start":"2026-11-23T10:00:00Z","end":"2026-11-24T10:00:00Z"}}'


@pytest.mark.parametrize(
    ("retry_after", "clamped"), [(None, 21600.0), (0.0, 60.0), (3600.0, 3600.0), (1e9, 86400.0)]
)
def test_a_renewal_window(retry_after: float | None, clamped: float) -> None:
    window = read_renewal_window(answer(WINDOW, retry_after))
    assert window.end - window.start == 86400
    assert window.retry_after == clamped


@pytest.mark.parametrize("body", [b"{}", WINDOW.replace(b"24T", b"22T"), WINDOW.replace(b"Z", b"")])
def test_a_renewal_window_that_makes_no_sense(body: bytes) -> None:
    with pytest.raises(IssuanceUnavailable):
        read_renewal_window(answer(body))


def test_a_leaf_without_authority_key_identifier_has_no_ari() -> None:
    with pytest.raises(IssuanceRejected, match="no ARI"):
        ari_certificate_id(trustme.CA().cert_pem.bytes())


def pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize(
    ("key", "name"),
    [
        (ec.generate_private_key(ec.SECP256R1()), "ES256"),
        (ec.generate_private_key(ec.SECP384R1()), "ES384"),
        (rsa.generate_private_key(65537, 2048), "RS256"),
    ],
)
def test_account_keys(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, name: str) -> None:
    loaded = load_account_key(pem(key))
    assert signature_algorithm(loaded).name == name
    token, _, thumbprint = key_authorization("a" * 22, to_jwk(loaded)).partition(".")
    assert token == "a" * 22
    assert len(thumbprint) == 43


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"no key",
        pem(ec.generate_private_key(ec.SECP256K1())),
        pem(ed25519.Ed25519PrivateKey.generate()),
        pem(rsa.generate_private_key(65537, 1024)),
    ],
)
def test_other_account_keys_are_refused(text: bytes) -> None:
    with pytest.raises(ConfigurationError):
        load_account_key(text)


def test_an_empty_payload_is_sent_as_an_empty_object() -> None:
    assert Payload({})
    assert Payload({}).json_dumps() == "{}"
