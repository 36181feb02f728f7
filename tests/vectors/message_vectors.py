"""Bodies without their signatures: lists for a puller, receipts for an agent, answers to them."""

from __future__ import annotations

from typing import Any

from shared.contract import strict_json
from tests.vectors.vector import Vector
from tests.vectors.world import NAME, NOW

Cases = dict[str, tuple[str, bytes]]

# --- lists --------------------------------------------------------------------------------------


def _offer(without: str = "", **members: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "certificate": NAME,
        "names": [NAME],
        "generation": NOW - 100,
        "not_after": NOW + 86_400,
        "key_origin": "agent",
        "csr_wanted": False,
    } | members
    values.pop(without, None)
    return values


def _listing(*offers: dict[str, Any], without: str = "", **members: Any) -> bytes:
    values: dict[str, Any] = {
        "certificates": list(offers),
        "come_back": 3600,
        "version": "5f3a9c",
    } | members
    values.pop(without, None)
    return strict_json.encode(values)


def listing_example() -> bytes:
    """A list of one certificate."""
    return _listing(_offer())


def _good_listings() -> dict[str, tuple[str, bytes, int]]:
    """Name to comment, octets, and after how many seconds a puller comes back."""
    names = [f"n{number}.example.com" for number in range(100)]
    return {
        "empty": ("nothing is granted", _listing(), 3600),
        "one": ("one certificate", listing_example(), 3600),
        "none-yet": (
            "granted, and nothing was issued yet",
            _listing(_offer(generation=0, not_after=0)),
            3600,
        ),
        "csr-wanted": (
            "a CSR is wanted",
            _listing(_offer(key_origin="puller", csr_wanted=True)),
            3600,
        ),
        "hundred-names": ("a hundred names", _listing(_offer(names=names)), 3600),
        "version-64": ("a version of 64 characters", _listing(version="~" * 64), 3600),
        "version-1": ("a version of every kind of character", _listing(version="aZ0._~-"), 3600),
        "id-200": ("an id of 200 characters", _listing(_offer(certificate="a" * 200)), 3600),
        "come-back-0": ("never sooner than a minute", _listing(come_back=0), 60),
        "come-back-61": ("a minute and a second", _listing(come_back=61), 61),
        "come-back-year": ("never later than a day", _listing(come_back=31_536_000), 86_400),
    }


def _bad_listings() -> Cases:
    names = [f"n{number}.example.com" for number in range(101)]
    cases: Cases = {
        "not-object": ("a list without its frame", b"[]"),
        "member-unknown": ("a member that has no meaning", _listing(next="x")),
        "version-65": ("a version of 65 characters", _listing(version="a" * 65)),
        "version-empty": ("a version of no characters", _listing(version="")),
        "version-space": ("a version with a space", _listing(version="a b")),
        "version-ampersand": ("a version that would end a query", _listing(version="a&wait=1")),
        "version-newline": ("a version with a newline behind it", _listing(version="a\n")),
        "version-number": ("a version that is a number", _listing(version=1)),
        "come-back-negative": ("a time before now", _listing(come_back=-1)),
        "come-back-float": ("half a minute", _listing().replace(b"3600", b"30.5")),
        "come-back-text": ("a time in quotes", _listing(come_back="60")),
        "certificates-object": ("an object where the list belongs", _listing(certificates={})),
        "certificates-text": ("a string in the list", _listing(certificates=["x"])),
    }
    offers: dict[str, tuple[str, dict[str, Any]]] = {
        "id-dots": ("an id that climbs", _offer(certificate="a/../b")),
        "id-201": ("an id of 201 characters", _offer(certificate="a" * 201)),
        "id-capitals": ("an id in capitals", _offer(certificate="WWW")),
        "names-none": ("no name", _offer(names=[])),
        "names-101": ("a hundred and one names", _offer(names=names)),
        "names-address": ("an IP address", _offer(names=["192.0.2.1"])),
        "names-single-label": ("one label", _offer(names=["intranet"])),
        "names-dot": ("a dot at the end", _offer(names=[NAME + "."])),
        "generation-negative": ("a generation below 0", _offer(generation=-1)),
        "generation-text": ("a generation in quotes", _offer(generation="1")),
        "generation-2-53": ("a generation of 2^53", _offer(generation=2**53)),
        "key-origin": ("a key made by somebody else", _offer(key_origin="escrow")),
        "csr-wanted-number": ("1 where true belongs", _offer(csr_wanted=1)),
        "offer-member-unknown": ("a member that has no meaning", _offer(path="/etc")),
    }
    cases |= {name: (comment, _listing(one)) for name, (comment, one) in offers.items()}
    cases |= {
        f"without-{name.replace('_', '-')}": (f"no {name}", _listing(without=name))
        for name in ("certificates", "come_back", "version")
    }
    cases |= {
        f"offer-without-{name.replace('_', '-')}": (f"no {name}", _listing(_offer(name)))
        for name in sorted(_offer())
    }
    return cases


def listings() -> list[Vector]:
    return [
        *(
            Vector(
                f"good-{name}",
                {"expect": "success", "comment": comment, "come-back": str(seconds)},
                octets,
            )
            for name, (comment, octets, seconds) in _good_listings().items()
        ),
        *(
            Vector(name, {"expect": "malformed-message", "comment": comment}, octets)
            for name, (comment, octets) in _bad_listings().items()
        ),
    ]


# --- receipts -----------------------------------------------------------------------------------


def _receipt(without: str = "", **members: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "certificate": NAME,
        "generation": NOW - 100,
        "digest": "ab" * 32,
        "outcome": "installed",
        "error": "none",
        "served": [{"leaf_sha256": "cd" * 32, "not_after": NOW + 86_400, "address": None}],
        "at": NOW,
    } | members
    values.pop(without, None)
    return values


def _batch(*receipts: object) -> bytes:
    return strict_json.encode({"receipts": list(receipts)})


def _good_batches() -> dict[str, tuple[str, bytes, str]]:
    """Name to comment, octets, and the places of those that cannot be read."""
    served = {"leaf_sha256": "cd" * 32, "not_after": 0, "address": "192.0.2.1:443"}
    refused = _receipt(outcome="refused", error="bundle/seal-broken")
    small = _receipt(served=[])
    singles = {
        "refused": ("a bundle that was refused", refused),
        "no-generation": (
            "a bundle that did not open: the digest of the octets as they came",
            _receipt(generation=0, outcome="refused", error="bundle/malformed", served=[]),
        ),
        "rolled-back": (
            "put back",
            _receipt(outcome="rolled_back", error="install/served-mismatch"),
        ),
        "kept": (
            "in place, and not seen to be served",
            _receipt(error="install/cannot-be-seen", served=[]),
        ),
        "failed": ("a fault of the machine", _receipt(outcome="failed", error="unexpected")),
        "removed": (
            "about no bundle: 64 zeros",
            _receipt(outcome="removed", digest="0" * 64, served=[]),
        ),
        "served-16": ("sixteen places", _receipt(served=[served] * 16)),
    }
    unreadable = {
        "member-unknown": ("a member that has no meaning", _receipt(path="/etc")),
        "member-missing": ("no digest", _receipt("digest")),
        "outcome": ("an outcome that does not exist", _receipt(outcome="perhaps")),
        "error": ("an error of another family", _receipt(error="store/unavailable")),
        "digest": ("a digest in capitals", _receipt(digest="AB" * 32)),
        "served-17": ("seventeen places", _receipt(served=[served] * 17)),
        "id": ("an id that climbs", _receipt(certificate="../x")),
        "generation": ("a generation below 0", _receipt(generation=-1)),
        "at": ("a time in quotes", _receipt(at=str(NOW))),
    }
    return {
        "one": ("one receipt", _batch(_receipt()), ""),
        "hundred": ("a hundred receipts", _batch(*[small] * 100), ""),
        **{name: (comment, _batch(one), "") for name, (comment, one) in singles.items()},
        **{
            f"second-{name}": (
                f"the second of three cannot be read: {comment}",
                _batch(_receipt(), one, refused),
                "1",
            )
            for name, (comment, one) in unreadable.items()
        },
    }


def _bad_batches() -> Cases:
    small = _receipt(served=[])
    return {
        "empty": ("no receipt", _batch()),
        "hundred-and-one": ("a hundred and one receipts", _batch(*[small] * 101)),
        "alone": ("a receipt without its list", strict_json.encode(_receipt())),
        "member-unknown": (
            "a member beside the list",
            strict_json.encode({"receipts": [small], "more": False}),
        ),
        "not-objects": ("a string in the list", _batch(small, "x")),
        "not-json": ("not JSON", b"receipts"),
        "member-twice": (
            "a member that stands twice in one of them, which makes the whole text malformed",
            _batch(small).replace(b'"at":', b'"at":1,"at":'),
        ),
        "reports": ("the list of another call", strict_json.encode({"reports": [small]})),
    }


def _refusal(without: str = "", **members: Any) -> dict[str, Any]:
    values: dict[str, Any] = {"index": 0, "type": "certificate-unknown", "detail": "x"} | members
    values.pop(without, None)
    return values


def _told(*refused: object) -> bytes:
    return strict_json.encode({"refused": list(refused)})


def _good_answers() -> dict[str, tuple[str, bytes, str]]:
    return {
        "none": ("all were accepted", _told(), ""),
        "last": ("the hundredth was refused", _told(_refusal(index=99)), "99"),
        "detail-500": ("500 characters of detail", _told(_refusal(detail="x" * 500)), "0"),
        "all": ("all hundred", _told(*(_refusal(index=n) for n in range(100))), _COUNTED),
    }


_COUNTED = ",".join(map(str, range(100)))


def _bad_answers() -> Cases:
    return {
        "member-missing": ("no list", b"{}"),
        "member-unknown": ("a member beside the list", b'{"accepted":true,"refused":[]}'),
        "index-100": ("a place that a list never has", _told(_refusal(index=100))),
        "index-negative": ("a place before the first", _told(_refusal(index=-1))),
        "detail-501": ("501 characters of detail", _told(_refusal(detail="x" * 501))),
        "type-prefix": (
            "a type with its prefix",
            _told(_refusal(type="urn:split-horizon-relay:problem:quota")),
        ),
        "type-empty": ("a type of no characters", _told(_refusal(type=""))),
        "hundred-and-one": ("a hundred and one", _told(*[_refusal()] * 101)),
        "without-detail": ("no detail", _told(_refusal("detail"))),
    }


def receipts() -> list[Vector]:
    found = []
    for of, error, good, bad in (
        ("request", "malformed-request", _good_batches(), _bad_batches()),
        ("answer", "malformed-message", _good_answers(), _bad_answers()),
    ):
        prefix = "" if of == "request" else "answer-"
        found += [
            Vector(
                f"good-{prefix}{name}",
                {"expect": "success", "comment": comment, "of": of, "refused": refused},
                octets,
            )
            for name, (comment, octets, refused) in good.items()
        ]
        found += [
            Vector(f"{prefix}{name}", {"expect": error, "comment": comment, "of": of}, octets)
            for name, (comment, octets) in bad.items()
        ]
    return found
