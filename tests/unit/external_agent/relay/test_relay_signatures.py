"""The middleware: what is not verified is refused unsigned; what is verified is always signed."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import time

import pytest

from shared.contract.batches import BatchAnswer, encode_batch
from shared.contract.signing import SigningKey
from shared.contract.wire import CERTIFICATES_PATH, RECEIPTS_PATH, Listing, Receipt, bundle_path
from tests.unit.external_agent.harness import (
    CERTIFICATE,
    START,
    Client,
    Draft,
    Edit,
    RunningAgent,
    new_nonce,
)


@pytest.fixture
def client(running: RunningAgent) -> Client:
    return running.enrolled(CERTIFICATE)


def receipt(**changes: object) -> bytes:
    members: dict[str, object] = {
        "certificate": CERTIFICATE,
        "generation": START - 1000,
        "digest": "ab" * 32,
        "outcome": "installed",
        "error": "none",
        "served": (),
        "at": START,
    }
    made = Receipt(**{**members, **changes})  # type: ignore[arg-type]
    return encode_batch("receipts", [made.encode().decode()])


def test_a_signed_request_gets_a_signed_answer(client: Client) -> None:
    answer = client.get(CERTIFICATES_PATH)
    assert (answer.status, answer.signed) == (200, True)
    assert [one.certificate for one in Listing.decode(answer.body).offers] == [CERTIFICATE]
    assert answer.headers["cache-control"] == "no-store"
    assert "server" not in answer.headers


def _path(draft: Draft) -> None:
    draft.path = "/v1/certificates/app.example.org/bundle"


def _query(draft: Draft) -> None:
    draft.query = "after=1"


def _method(draft: Draft) -> None:
    draft.method = "PUT"
    draft.headers["Content-Digest"] = "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:"


def _in_header(name: str, old: str, new: str) -> Edit:
    def edit(draft: Draft) -> None:
        assert old in draft.headers[name]
        draft.headers[name] = draft.headers[name].replace(old, new, 1)

    return edit


def _drop(name: str) -> Edit:
    return lambda draft: draft.headers.pop(name) and None  # type: ignore[func-returns-value]


def _double(name: str) -> Edit:
    return lambda draft: draft.more_headers.append((name, draft.headers[name]))


def _flip(draft: Draft) -> None:
    value = draft.headers["Signature"]
    at = len("shr=:") + 5
    draft.headers["Signature"] = value[:at] + ("A" if value[at] != "A" else "B") + value[at + 1 :]


EDITS = {
    "path": (_path, 401),
    "query added": (_query, 401),
    "method": (_method, 400),
    "created": (_in_header("Signature-Input", f"created={START}", f"created={START + 1}"), 401),
    "key id": (_in_header("Signature-Input", 'keyid="', 'keyid="0'), 400),
    "another key id": (
        lambda draft: draft.headers.update(
            {
                "Signature-Input": draft.headers["Signature-Input"].replace(
                    draft.headers["Signature-Input"].split('keyid="')[1][:64], "0" * 64
                )
            }
        ),
        401,
    ),
    "algorithm": (_in_header("Signature-Input", "ed25519", "hmac-sha256"), 400),
    "tag": (_in_header("Signature-Input", "shr1-request", "shr1-response"), 400),
    "token's tag": (_in_header("Signature-Input", "shr1-request", "shr1-token"), 400),
    "label": (_in_header("Signature-Input", "shr=", "sig="), 400),
    "components fewer": (_in_header("Signature-Input", ' "@query"', ""), 400),
    "components swapped": (
        _in_header("Signature-Input", '"@method" "@authority"', '"@authority" "@method"'),
        400,
    ),
    "parameter added": (
        lambda draft: draft.headers.update(
            {"Signature-Input": draft.headers["Signature-Input"] + ";expires=9999999999"}
        ),
        400,
    ),
    "signature": (_flip, 401),
    "no signature": (_drop("Signature"), 400),
    "no input": (_drop("Signature-Input"), 400),
    "two signatures": (_double("Signature"), 400),
    "two inputs": (_double("Signature-Input"), 400),
    "input over 1 KiB": (
        lambda draft: draft.headers.update({"Signature-Input": "x" * 1025}),
        400,
    ),
    "signature over 1 KiB": (lambda draft: draft.headers.update({"Signature": "x" * 1025}), 400),
}


@pytest.mark.parametrize("name", EDITS)
def test_every_edit_of_a_get_is_refused_unsigned(client: Client, name: str) -> None:
    edit, status = EDITS[name]
    answer = client.get(bundle_path(CERTIFICATE), edit=edit)
    assert (answer.status, answer.signed) == (status, False)
    assert "signature" not in answer.headers
    assert answer.slug in ("signature-malformed", "not-authenticated")


def _body(draft: Draft) -> None:
    draft.raw_body = draft.body.replace(b"installed", b"installee")


def _longer(draft: Draft) -> None:
    draft.raw_body = draft.body + b" "


def _digest(draft: Draft) -> None:
    draft.headers["Content-Digest"] = "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:"


def _body_and_digest(draft: Draft) -> None:
    draft.raw_body = b""
    _digest(draft)


@pytest.mark.parametrize(
    "edit", [_body, _longer, _digest, _body_and_digest, _drop("Content-Digest")]
)
def test_every_edit_of_a_body_is_refused_unsigned(client: Client, edit: Edit) -> None:
    answer = client.send("POST", RECEIPTS_PATH, receipt(), edit=edit)
    assert (answer.status, answer.signed, answer.slug) == (401, False, "not-authenticated")


def test_two_content_digests_are_refused(client: Client) -> None:
    answer = client.send("POST", RECEIPTS_PATH, receipt(), edit=_double("Content-Digest"))
    assert (answer.status, answer.signed) == (400, False)


def test_an_unknown_key_is_refused_like_a_wrong_signature(running: RunningAgent) -> None:
    answer = Client(running).get(CERTIFICATES_PATH)
    assert (answer.status, answer.signed, answer.slug) == (401, False, "not-authenticated")


@pytest.mark.parametrize("signed", [True, False])
def test_a_stranger_is_refused_before_a_body_is_read(
    running: RunningAgent, monkeypatch: pytest.MonkeyPatch, *, signed: bool
) -> None:
    monkeypatch.setattr("external_agent.relay.signed_messages._BODY_SECONDS", 300.0)
    stranger = Client(running)
    draft = stranger.draft("POST", RECEIPTS_PATH, receipt())
    connection = stranger.connect(timeout=20)
    connection.putrequest("POST", draft.path, skip_host=True, skip_accept_encoding=True)
    fields = draft.headers if signed else {}
    for name, value in (*fields.items(), ("Host", "x"), ("Content-Length", "1000")):
        connection.putheader(name, value)
    connection.endheaders()
    with contextlib.closing(connection), connection.getresponse() as answer:
        assert answer.status == (401 if signed else 400)
        assert answer.getheader("Connection") == "close"


def test_a_stranger_cannot_use_a_known_key_id(client: Client, running: RunningAgent) -> None:
    stranger = Client(running)
    known = client.id

    def claim(draft: Draft) -> None:
        own = draft.headers["Signature-Input"]
        draft.headers["Signature-Input"] = own.replace(stranger.id, known)

    answer = stranger.get(CERTIFICATES_PATH, edit=claim)
    assert (answer.status, answer.signed) == (401, False)


@pytest.mark.parametrize("method", ["DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE"])
def test_other_methods_are_refused_unsigned(client: Client, method: str) -> None:
    answer = client.send(method, CERTIFICATES_PATH)
    assert (answer.status, answer.signed) == (405, False)


def test_a_get_with_a_body_is_refused(client: Client) -> None:
    def add(draft: Draft) -> None:
        draft.raw_body = b"{}"

    answer = client.get(CERTIFICATES_PATH, edit=add)
    assert (answer.status, answer.signed, answer.slug) == (400, False, "body-not-allowed")


def test_a_get_with_chunks_is_refused(client: Client) -> None:
    def add(draft: Draft) -> None:
        draft.more_headers.append(("Transfer-Encoding", "chunked"))

    draft = client.draft("GET", CERTIFICATES_PATH)
    add(draft)
    draft.raw_body = None
    connection = client.connect()
    connection.putrequest("GET", draft.path, skip_host=True, skip_accept_encoding=True)
    for name, value in (*draft.headers.items(), *draft.more_headers, ("Host", "x")):
        connection.putheader(name, value)
    connection.endheaders()
    connection.send(b"0\r\n\r\n")
    assert connection.getresponse().status == 400
    connection.close()


def test_a_body_over_64_kib_is_refused_before_it_is_read(client: Client) -> None:
    answer = client.send("POST", RECEIPTS_PATH, b"x" * (64 * 1024 + 1))
    assert (answer.status, answer.signed, answer.slug) == (413, False, "body-too-large")


def test_64_kib_are_read(client: Client) -> None:
    answer = client.send("POST", RECEIPTS_PATH, b"x" * (64 * 1024))
    assert (answer.status, answer.signed, answer.slug) == (400, True, "malformed-request")


def test_an_endless_chunked_body_is_cut_off(client: Client) -> None:
    draft = client.draft("POST", RECEIPTS_PATH, receipt())
    connection = client.connect()
    connection.putrequest("POST", draft.path, skip_host=True, skip_accept_encoding=True)
    for name, value in (*draft.headers.items(), ("Host", "x"), ("Transfer-Encoding", "chunked")):
        connection.putheader(name, value)
    connection.endheaders()
    end = time.monotonic() + 10
    with pytest.raises(OSError), contextlib.closing(connection):
        while time.monotonic() < end:
            connection.send(b"1000\r\n" + b"x" * 4096 + b"\r\n")


def test_a_body_that_comes_too_slowly_is_408(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("external_agent.relay.signed_messages._BODY_SECONDS", 0.3)
    draft = client.draft("POST", RECEIPTS_PATH, receipt())
    connection = client.connect()
    connection.putrequest("POST", draft.path, skip_host=True, skip_accept_encoding=True)
    for name, value in (*draft.headers.items(), ("Host", "x"), ("Content-Length", "1000")):
        connection.putheader(name, value)
    connection.endheaders()
    with contextlib.closing(connection):
        connection.send(b"{")  # and nothing more
        with connection.getresponse() as answer:
            assert answer.status == 408
            assert json.loads(answer.read())["type"].endswith("body-too-slow")
            assert answer.getheader("Signature") is None


_REQUEST = b"POST /v1/receipts HTTP/1.1\r\nHost: x\r\n"
ENDLESS = {
    "path": b"GET /",
    "field": b"GET / HTTP/1.1\r\nHost: ",
    "trailer": _REQUEST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: ",
    "chunk extension": _REQUEST + b"Transfer-Encoding: chunked\r\n\r\n1;x=",
}


@pytest.mark.parametrize("beginning", ENDLESS.values(), ids=ENDLESS.keys())
@pytest.mark.parametrize("listener", ["relay", "operator"])
def test_what_stands_beside_bodies_is_not_kept_without_end(
    running: RunningAgent, listener: str, beginning: bytes
) -> None:
    plain = socket.create_connection(("127.0.0.1", running.port(listener)), 10)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection = context.wrap_socket(plain) if listener == "relay" else plain
    end = time.monotonic() + 10
    with connection, pytest.raises(OSError):
        connection.sendall(beginning)
        while time.monotonic() < end:
            connection.sendall(b"a" * 65536)


@pytest.mark.parametrize("skew", [-300, 300])
def test_a_clock_within_300_s_is_accepted(client: Client, skew: int) -> None:
    assert client.get(CERTIFICATES_PATH, created=START + skew).status == 200


@pytest.mark.parametrize(
    ("skew", "words"), [(-301, "301 s behind"), (301, "301 s ahead"), (31_536_000, "ahead")]
)
def test_a_clock_beyond_300_s_is_refused_signed(client: Client, skew: int, words: str) -> None:
    answer = client.get(CERTIFICATES_PATH, created=START + skew)
    assert (answer.status, answer.signed, answer.slug) == (400, True, "clock")
    assert words in answer.body.decode()


def test_a_replayed_post_is_refused_signed(client: Client) -> None:
    nonce = new_nonce()
    first = client.send("POST", RECEIPTS_PATH, receipt(), nonce=nonce)
    assert (first.status, first.signed) == (200, True)
    again = client.send("POST", RECEIPTS_PATH, receipt(), nonce=nonce)
    assert (again.status, again.signed, again.slug) == (409, True, "replayed-nonce")


def test_a_get_may_be_repeated(client: Client) -> None:
    draft = client.draft("GET", CERTIFICATES_PATH)
    assert [client.exchange(draft).status for _ in range(2)] == [200, 200]


def test_the_clock_is_judged_before_the_nonce_and_the_signature_before_the_clock(
    client: Client,
) -> None:
    nonce = new_nonce()
    assert client.send("POST", RECEIPTS_PATH, receipt(), nonce=nonce).status == 200
    late = client.send("POST", RECEIPTS_PATH, receipt(), nonce=nonce, created=START - 301)
    assert late.slug == "clock"
    edited = client.send(
        "POST", RECEIPTS_PATH, receipt(), nonce=nonce, created=START - 301, edit=_flip
    )
    assert (edited.slug, edited.signed) == ("not-authenticated", False)


def test_the_nonce_is_judged_before_the_grant(client: Client) -> None:
    nonce = new_nonce()
    body = receipt(certificate="app.example.org")
    assert client.send("POST", RECEIPTS_PATH, receipt(), nonce=nonce).status == 200
    assert client.send("POST", RECEIPTS_PATH, body, nonce=nonce).slug == "replayed-nonce"
    (refused,) = BatchAnswer.decode(client.send("POST", RECEIPTS_PATH, body).body).refused
    assert (refused.index, refused.slug) == (0, "certificate-unknown")


def test_a_proxy_may_rewrite_host(client: Client) -> None:
    def rewrite(draft: Draft) -> None:
        draft.host = "127.0.0.1:1"
        draft.more_headers += [("X-Forwarded-Host", "evil.example.com"), ("Via", "1.1 proxy")]

    answer = client.get(CERTIFICATES_PATH, edit=rewrite)
    assert (answer.status, answer.signed) == (200, True)


def test_a_request_signed_for_another_agent_is_refused_whatever_its_host(client: Client) -> None:
    client.authority = "elsewhere.example.com"
    try:
        answer = client.get(
            CERTIFICATES_PATH, edit=lambda draft: setattr(draft, "host", "elsewhere.example.com")
        )
    finally:
        client.authority = "relay.example.com:8443"
    assert (answer.status, answer.signed) == (401, False)


def test_a_proxy_that_decodes_the_path_breaks_the_signature(client: Client) -> None:
    def decode(draft: Draft) -> None:
        draft.path = draft.path.replace("%2A", "*")

    answer = client.get("/v1/certificates/%2A.intra.example.com/bundle", edit=decode)
    assert (answer.status, answer.signed) == (401, False)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/certificates/%2A.intra.example.com/bundle",
        "/v1/certificates/www%2Eintra.example.com/bundle",
        "/v1/certificates/..%2Fwww.intra.example.com/bundle",
        "/v1/certificates/*.intra.example.com/bundle",
        "/v1/certificates/WWW.intra.example.com/bundle",
    ],
)
def test_paths_are_taken_as_they_stand(client: Client, path: str) -> None:
    """A percent-encoded id is no id: nothing is decoded to look for one."""
    answer = client.get(path)
    assert (answer.status, answer.signed, answer.slug) == (404, True, "certificate-unknown")


@pytest.mark.parametrize(
    "path",
    ["/", "/v1", "/v1/certificates/", "/v2/certificates", "/v1/certificates/a/b/c", "/docs"],
)
def test_other_paths_are_refused_signed(client: Client, path: str) -> None:
    answer = client.get(path)
    assert (answer.status, answer.signed, answer.slug) == (404, True, "not-found")


def test_a_method_that_does_not_fit_is_refused_signed(client: Client) -> None:
    answer = client.send("PUT", RECEIPTS_PATH, receipt())
    assert (answer.status, answer.signed, answer.slug) == (404, True, "not-found")


@pytest.mark.parametrize(
    "query",
    ["wait=-1", "wait=1.5", "wait=01", "wait=", "since=a/b", "since=a&since=a", "page=1", "wait"],
)
def test_other_queries_are_refused_signed(client: Client, query: str) -> None:
    answer = client.get(CERTIFICATES_PATH, query)
    assert (answer.status, answer.signed, answer.slug) == (400, True, "malformed-request")


@pytest.mark.parametrize("query", ["after=9007199254740992", "after=x", "after=1&after=2"])
def test_a_generation_is_below_two_to_the_53rd(client: Client, query: str) -> None:
    answer = client.get(bundle_path(CERTIFICATE), query)
    assert (answer.status, answer.slug) == (400, "malformed-request")


@pytest.mark.parametrize(
    "line",
    [
        b"GET //v1/certificates HTTP/1.1",
        b"GET http://other/v1/certificates HTTP/1.1",
        b"GET /v1/\xff\xfe HTTP/1.1",
        b"GET * HTTP/1.1",
        b"\x16\x03\x01",
        b"GET /v1/certificates HTTP/9.9",
    ],
)
def test_odd_request_lines_are_refused_and_nothing_breaks(client: Client, line: bytes) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", client.running.port("relay")), timeout=10) as plain,
        context.wrap_socket(plain) as connection,
    ):
        connection.sendall(line + b"\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = connection.recv(65536)
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 401")), answer[:80]
    assert client.get(CERTIFICATES_PATH).status == 200


def test_a_token_label_on_an_ordinary_request_is_refused(client: Client) -> None:
    answer = client.send(
        "GET", CERTIFICATES_PATH, signers={"token": SigningKey.generate(), "shr": client.signing}
    )
    assert (answer.status, answer.signed) == (400, False)


def test_a_revoked_puller_gets_a_signed_refusal(running: RunningAgent) -> None:
    client = running.enrolled(CERTIFICATE)
    running.store.revoke_puller(client.id, now=START)
    for answer in (
        client.get(CERTIFICATES_PATH),
        client.get(bundle_path(CERTIFICATE)),
        client.send("POST", RECEIPTS_PATH, receipt()),
    ):
        assert (answer.status, answer.signed, answer.slug) == (403, True, "puller-revoked")


def test_a_database_that_is_gone_gives_503_with_retry_after(
    running: RunningAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shared.contract.errors import StoreUnavailable

    client = running.enrolled(CERTIFICATE)

    def gone(*args: object, **named: object) -> object:
        raise StoreUnavailable("The database is locked.")

    monkeypatch.setattr(running.store, "listing_for", gone)
    answer = client.get(CERTIFICATES_PATH)
    assert (answer.status, answer.signed, answer.headers["retry-after"]) == (503, True, "5")
    monkeypatch.setattr(running.store, "puller", gone)
    answer = client.get(CERTIFICATES_PATH)
    assert (answer.status, answer.signed, answer.headers["retry-after"]) == (503, False, "5")


def test_an_error_of_our_own_is_signed_and_tells_nothing(
    running: RunningAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = running.enrolled(CERTIFICATE)

    def broken(*args: object, **named: object) -> object:
        raise ZeroDivisionError("secret details")

    monkeypatch.setattr(running.store, "listing_for", broken)
    answer = client.get(CERTIFICATES_PATH)
    assert (answer.status, answer.signed, answer.slug) == (500, True, "internal")
    assert b"secret" not in answer.body
