"""docs/reference/format-example.md says what the product sends and takes."""

from __future__ import annotations

import hashlib

from internal_puller.trust import Wanted, accept
from shared.contract.enrolment_token import EnrolmentToken
from shared.contract.http_signatures import (
    SignedTarget,
    content_digest,
    sign_request,
    verify_response,
)
from shared.contract.key_policy import key_to_der
from shared.contract.wire import BundleAnswer, EnrolmentAnswer, EnrolmentRequest
from tests.vectors import example
from tests.vectors.request_vectors import AUTHORITY, NONCE
from tests.vectors.sealing_vectors import CONTEXT, KEY, preimage
from tests.vectors.token_vectors import printed
from tests.vectors.world import AGENT, IDENTITY, NAME, NOW, PULLER, ROOT, TOKEN_KEY


def _fields(*labels: tuple[str, example.Signed]) -> dict[str, str]:
    both = [one.fields(label) for label, one in labels]
    return {
        "Signature-Input": ", ".join(one for one, _ in both),
        "Signature": ", ".join(one for _, one in both),
    }


def test_the_enrolment_is_signed_like_this() -> None:
    target = SignedTarget("POST", AUTHORITY, "/v1/enrolments", "")
    sent = sign_request(
        target, example.BODY, {"token": TOKEN_KEY, "shr": PULLER}, created=NOW, nonce=NONCE
    )
    assert sent == _fields(("token", example.BY_TOKEN), ("shr", example.BY_PULLER)) | {
        "Content-Digest": content_digest(example.BODY)
    }
    assert EnrolmentRequest.decode(example.BODY).sealing_key == IDENTITY.recipient.public
    assert EnrolmentAnswer.decode(example.ENROLLED).puller == PULLER.id
    assert EnrolmentToken.decode(printed().decode(), now=NOW).key.id == TOKEN_KEY.id


def test_the_question_is_signed_like_this() -> None:
    target = SignedTarget("GET", AUTHORITY, f"/v1/certificates/{NAME}/bundle", "after=0")
    sent = sign_request(target, b"", {"shr": PULLER}, created=NOW, nonce=NONCE)
    assert sent == _fields(("shr", example.ASKED))


def test_the_answers_are_taken() -> None:
    for body, answered, asked in (
        (example.ENROLLED, example.ENROLLED_SIGNED, example.BY_PULLER),
        (example.ANSWER, example.ANSWERED, example.ASKED),
    ):
        fields = {name.lower(): value for name, value in _fields(("shr", answered)).items()}
        fields["content-digest"] = content_digest(body)
        assert verify_response(200, fields, body, asked.signature, AGENT.public) == NOW


def test_the_context_is_the_product_s() -> None:
    assert hashlib.sha256(preimage(CONTEXT)).digest() == CONTEXT.digest()


def test_the_bundle_is_accepted() -> None:
    envelope = BundleAnswer.decode(example.ANSWER).envelope
    assert envelope is not None
    accepted = accept(
        envelope,
        agent=AGENT.public,
        identity=IDENTITY,
        wanted=Wanted(NAME, (NAME,), own_key_only=False, anchors=((ROOT,),)),
        floor=None,
        pending_keys={},
        now=NOW,
    )
    assert accepted.manifest.generation == CONTEXT.generation
    assert key_to_der(accepted.key) == KEY


def test_it_shows_the_octets() -> None:
    page = example.page()
    for text in (example.BY_TOKEN.base, example.ASKED.base, example.ANSWERED.base):
        assert text in page
    assert preimage(CONTEXT).hex() in page.replace("\n", "")
