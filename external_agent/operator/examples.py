"""Examples of the OpenAPI document: one small world, in which everything is served."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]
_NOW = 1_800_000_000
_DAY = 86400
_NAME = "www.intra.example.com"
_CA = "https://acme-v02.api.letsencrypt.org/directory"
_PULLER = "3f" * 32
_LEAF = "9a" * 32
_TOKEN = "7c" * 32
_GENERATION = _NOW - 30 * _DAY

_PULLED: Json = {"generation": _GENERATION, "at": _GENERATION + 60}
_SERVED: Json = {
    "matches": True,
    "at": _GENERATION + 65,
    "leaves": [{"leaf_sha256": _LEAF, "not_after": _NOW + 60 * _DAY, "address": None}],
}
_RECEIPT: Json = {
    "generation": _GENERATION,
    "outcome": "installed",
    "error": "none",
    "at": _GENERATION + 65,
    "received_at": _GENERATION + 65,
}
CERTIFICATE: Json = {
    "certificate": _NAME,
    "names": [_NAME],
    "key_origin": "agent",
    "key_algorithm": "ec-p256",
    "challenge": "http-01",
    "directory": _CA,
    "cas": [
        {
            "directory": _CA,
            "next": True,
            "failures": 0,
            "left_alone_until": None,
            "problem": None,
        }
    ],
    "profile": None,
    "state": "served",
    "paused": None,
    "issued": {
        "generation": _GENERATION,
        "leaf_sha256": _LEAF,
        "serial": "04a1",
        "not_before": _GENERATION,
        "not_after": _NOW + 60 * _DAY,
        "issued_at": _GENERATION + 9,
        "key_origin": "agent",
        "directory": _CA,
        "revoked_at": None,
        "revoked_reason": None,
    },
    "attempt": None,
    "waits_for": "",
    "csr": None,
    "persist_records": [],
    "next_renewal": {
        "at": _NOW + 30 * _DAY,
        "why": "its share of the lifetime will be used up",
        "window": None,
    },
    "failures": 0,
    "last_error": None,
    "pullers": [
        {
            "puller": _PULLER,
            "host": "web1",
            "status": "active",
            "last_seen_at": _NOW - 600,
            "offered": _GENERATION,
            "pulled": _PULLED,
            "installed": {**_PULLED, "at": _GENERATION + 65},
            "served": _SERVED,
            "last_receipt": _RECEIPT,
        }
    ],
    "differences": [],
    "concerns": [],
}
PAUSED: Json = {
    **CERTIFICATE,
    "paused": {"at": _NOW, "until": _NOW + _DAY, "reason": "the name moves tomorrow"},
}
CERTIFICATE_PAGE: Json = {"now": _NOW, "items": [CERTIFICATE], "next": None}
STATUS: Json = {"now": _NOW, "certificates": [CERTIFICATE], "relay": None, "direct": []}
DIRECTS: Json = {
    "items": [
        {
            "certificate": "app.example.org",
            "origin": "direct",
            "names": ["app.example.org"],
            "puller": _PULLER,
            "host": "web1",
            "puller_status": "active",
            "state": "served",
            "generation": _GENERATION,
            "not_after": _NOW + 60 * _DAY,
            "leaf_sha256": _LEAF,
            "next_renewal": _NOW + 30 * _DAY,
            "outcome": "installed",
            "error": "none",
            "served": {"matches": True, "leaves": _SERVED["leaves"]},
            "at": _NOW,
            "received_at": _NOW,
            "concerns": [],
        }
    ]
}
WANTED: Json = {"certificates": [_NAME]}
REVOKED: Json = {
    "certificate": _NAME,
    "generation": _GENERATION,
    "before": False,
    "renewed": True,
}
PULLER: Json = {
    "puller": _PULLER,
    "sealing_id": "5d" * 32,
    "host": "web1",
    "status": "active",
    "enrolled_at": _GENERATION - 60,
    "last_seen_at": _NOW - 600,
    "enrolment_token": _TOKEN,
    "certificates": [_NAME],
}
PULLER_PAGE: Json = {"items": [PULLER], "next": None}
ENROLMENT: Json = {
    "token_id": _TOKEN,
    "certificates": [_NAME],
    "created_at": _NOW,
    "expires_at": _NOW + 3600,
    "redeemed_at": None,
    "redeemed_by": None,
    "voided_at": None,
}
ENROLMENTS: Json = {"items": [ENROLMENT]}
MADE_ENROLMENT: Json = {**ENROLMENT, "token": "shr1_…"}
ACCESS: Json = {
    "token_id": "0f1e2d3c4b5a6978",
    "name": "prometheus",
    "role": "read",
    "created_at": _NOW,
    "expires_at": _NOW + 90 * _DAY,
    "voided_at": None,
    "used_at": None,
}
ACCESS_TOKENS: Json = {"items": [ACCESS]}
MADE_ACCESS: Json = {**ACCESS, "token": "shra_…"}
ME: Json = {"actor": "token prometheus", "role": "read", "expires_at": _NOW + 90 * _DAY}
GENERATION_PAGE: Json = {
    "items": [
        {
            "certificate": _NAME,
            "generation": _GENERATION,
            "state": "issued",
            "names": [_NAME],
            "key_origin": "agent",
            "directory": _CA,
            "profile": None,
            "recipients": [_PULLER],
            "prepared_at": _GENERATION,
            "issued_at": _GENERATION + 9,
            "not_before": _GENERATION,
            "not_after": _NOW + 60 * _DAY,
            "serial": "04a1",
            "leaf_sha256": _LEAF,
            "spki_sha256": "1b" * 32,
            "chain": "-----BEGIN CERTIFICATE-----\n…",
            "why": "added",
            "replaced_by": None,
            "revoked_at": None,
            "revoked_reason": None,
            "error": None,
        }
    ],
    "next": None,
}
ORDER_PAGE: Json = {
    "items": [
        {
            "certificate": _NAME,
            "generation": _GENERATION,
            "state": "issued",
            "directory": _CA,
            "account": "https://acme-v02.api.letsencrypt.org/acme/acct/1",
            "order": "https://acme-v02.api.letsencrypt.org/acme/order/1/2",
            "expires": _GENERATION + 7 * _DAY,
            "certificate_url": "https://acme-v02.api.letsencrypt.org/acme/cert/3",
            "replaces": None,
            "why": "added",
            "steps": [
                {"step": "prepared", "at": _GENERATION},
                {"step": "ordered", "at": None},
                {"step": "finalizing", "at": None},
                {"step": "certified", "at": None},
                {"step": "issued", "at": _GENERATION + 9},
            ],
            "authorizations": [],
            "error": None,
        }
    ],
    "next": None,
}
RECEIPT_PAGE: Json = {
    "items": [
        {
            "number": 1,
            "puller": _PULLER,
            "certificate": _NAME,
            **_RECEIPT,
            "served": _SERVED["leaves"],
        }
    ],
    "next": None,
}
EVENT_PAGE: Json = {
    "items": [
        {
            "seq": 1,
            "at": _NOW,
            "kind": "certificate-added",
            "actor": "token deployer",
            "certificate": _NAME,
            "puller": None,
            "details": {"names": [_NAME], "challenge": "http-01", "ca": _CA},
            "previous_hash": "00" * 32,
            "hash": "6e" * 32,
        }
    ],
    "next": None,
}
ACCOUNTS: Json = {
    "items": [
        {
            "directory": _CA,
            "account": "https://acme-v02.api.letsencrypt.org/acme/acct/1",
            "contact": ["mailto:ops@example.com"],
            "thumbprint": None,
            "status": "valid",
            "opened_at": _GENERATION,
        }
    ]
}
ALERTS: Json = {
    "items": [
        {
            "receiver": "ops",
            "last_success_at": _GENERATION + 600,
            "last_failure_at": None,
            "failures": 0,
            "problem": "",
            "told": [
                {
                    "certificate": _NAME,
                    "severity": "warning",
                    "what": "No machine inside fetches it.",
                    "told_at": _GENERATION + 600,
                    "gone_at": None,
                }
            ],
        }
    ]
}
DIAGNOSIS: Json = {
    "at": _NOW,
    "healthy": False,
    "summary": f"Nobody answers {_NAME} at 192.0.2.7 port 80 (IPv4): timed out.",
    "findings": [
        {
            "side": "agent",
            "host": "vm",
            "check": "reach-ipv4",
            "verdict": "problem",
            "subject": _NAME,
            "what": f"Nobody answers {_NAME} at 192.0.2.7 port 80 (IPv4): timed out.",
            "do": "Open port 80 there towards this agent.",
        }
    ],
}
AUTHORITIES: Json = {
    "items": [
        {
            "directory": _CA,
            "health": "good",
            "certificates": 1,
            "failing": 0,
            "issued_at": _GENERATION + 9,
            "last_error": None,
        }
    ]
}
