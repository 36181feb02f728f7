"""A database with thousands of certificates and pullers, written in bulk, for measurements."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from sqlalchemy import create_engine, insert, text

from external_agent.facts.audit import canonical
from external_agent.store.open import open_store
from external_agent.store.tables import (
    bundles,
    certificates,
    generations,
    grants,
    pullers,
    receipts,
)

DIRECTORY = "https://ca.example.com/directory"
DAY = 86_400


def digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def fill(
    path: Path, count: int, *, now: int, generations_each: int = 3, receipts_each: int = 5
) -> str:
    """Write it; return its URL. Of every hundred certificates one fails and one is not served."""
    url = f"sqlite:///{path}"
    open_store(url).close()
    engine = create_engine(url)
    chain = "-----BEGIN CERTIFICATE-----\n" + "A" * 3000 + "\n-----END CERTIFICATE-----\n"
    rows: dict[object, list[dict[str, object]]] = {
        table: [] for table in (certificates, pullers, grants, generations, bundles, receipts)
    }
    for number in range(count):
        name, puller = f"host{number:05}.example.com", digest("puller", number)
        failing, unserved = number % 100 == 7, number % 100 == 8
        error = json.dumps({"type": "issuance/rejected", "what": "No.", "at": now - 60})
        rows[certificates].append(
            {
                **_nothing(certificates),
                "id": name,
                "names": canonical([name]),
                "key_origin": "agent",
                "key_algorithm": "ec-p256",
                "challenge": "http-01",
                "directory_url": DIRECTORY,
                "created_at": now - 400 * DAY,
                "wanted_reason": "added",
                "wanted": 1,
                "satisfied": 1,
                "due_at": now + 30 * DAY + number,
                "due_reason": "lifetime",
                "failures": 4 if failing else 0,
                "last_error": error if failing else None,
            }
        )
        rows[pullers].append(
            {
                "id": puller,
                "signing_key": bytes.fromhex(puller),
                "sealing_id": digest("sealing", number),
                "sealing_key": bytes.fromhex(digest("sealing key", number)),
                "host": f"web{number:05}",
                "status": "active",
                "enrolled_at": now - 300 * DAY,
                "last_seen_at": now - 600,
                "token_id": digest("token", number),
            }
        )
        rows[grants].append({"puller": puller, "certificate": name, "granted_at": now - 300 * DAY})
        for age in range(generations_each):
            generation = now - (age * 60 + 5) * DAY - number % 1000
            leaf = digest("leaf", number, age)
            rows[generations].append(
                {
                    **_nothing(generations),
                    "certificate": name,
                    "generation": generation,
                    "state": "issued",
                    "names": canonical([name]),
                    "key_origin": "agent",
                    "csr": b"csr",
                    "spki_sha256": digest("spki", number, age),
                    "directory_url": DIRECTORY,
                    "recipients": canonical([puller]),
                    "prepared_at": generation,
                    "chain": chain,
                    "leaf_sha256": leaf,
                    "serial": "1",
                    "not_before": generation,
                    "not_after": generation + 90 * DAY,
                    "issued_at": generation,
                }
            )
            rows[bundles].append(
                {
                    "certificate": name,
                    "generation": generation,
                    "puller": puller,
                    "manifest_digest": digest("manifest", number, age),
                    "envelope": b"x" * 4000,
                    "first_fetched_at": generation + 60,
                    "last_fetched_at": generation + 60,
                }
            )
            for turn in range(receipts_each):
                seen = digest("else") if unserved else leaf
                rows[receipts].append(
                    {
                        "puller": puller,
                        "certificate": name,
                        "generation": generation,
                        "digest": digest("manifest", number, age),
                        "outcome": "installed",
                        "error": "none",
                        "served": json.dumps(
                            [{"leaf_sha256": seen, "not_after": 0, "address": None}]
                        ),
                        "at": generation + 60 + turn,
                        "received_at": generation + 60 + turn,
                    }
                )
    rows[receipts].sort(key=lambda row: row["received_at"])  # type: ignore[arg-type, return-value]
    with engine.begin() as connection:
        connection.execute(text("PRAGMA synchronous=OFF"))
        for table, listed in rows.items():
            connection.execute(insert(table), listed)  # type: ignore[arg-type]
        connection.execute(text("ANALYZE"))
    engine.dispose()
    return url


def _nothing(table: object) -> dict[str, object]:
    """Zero for every number that must not be null, nothing for the rest."""
    return {
        column.name: None if column.nullable else 0
        for column in table.columns  # type: ignore[attr-defined]
    }
