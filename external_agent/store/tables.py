"""The tables, as SQLAlchemy Core knows them; migrations bring a database to this shape.

Times are unix seconds. JSON is text, so that SQLite and PostgreSQL hold the same.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
)

metadata = MetaData()

accounts = Table(
    "accounts",
    metadata,
    Column("directory_url", Text, primary_key=True),
    Column("account_url", Text, nullable=False),
    Column("contact", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("thumbprint", Text),
    Column("status", Text, nullable=False, server_default="valid"),
)

certificates = Table(
    "certificates",
    metadata,
    Column("id", Text, primary_key=True),
    Column("names", Text, nullable=False),
    Column("key_origin", Text, nullable=False),
    Column("key_algorithm", Text, nullable=False),
    Column("challenge", Text, nullable=False),
    Column("directory_url", Text, nullable=False),
    Column("profile", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("removed_at", BigInteger),
    Column("wanted", BigInteger, nullable=False),
    Column("satisfied", BigInteger, nullable=False),
    Column("wanted_reason", Text, nullable=False),
    Column("due_at", BigInteger),
    Column("paused_at", BigInteger, nullable=False),
    Column("paused_until", BigInteger, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("last_error", Text),
    Column("highest_seen", BigInteger, nullable=False),
    Column("restored_at", BigInteger),
    Column("lease_owner", Text),
    Column("leased_at", BigInteger, nullable=False),
    Column("lease_until", BigInteger, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("due_reason", Text),
    Column("asked_until", BigInteger),
    Column("cas", Text),
    Column("troubles", Text),
    Column("held_at", BigInteger),
    Column("held_until", BigInteger),
    Column("held_reason", Text),
    Index("certificates_due", "due_at"),
)

windows = Table(
    "windows",
    metadata,
    Column("certificate", Text, ForeignKey("certificates.id"), primary_key=True),
    Column("generation", BigInteger, nullable=False),
    Column("next_look", BigInteger, nullable=False),
    Column("looked_at", BigInteger, nullable=False),
    Column("window_start", BigInteger),
    Column("window_end", BigInteger),
    Column("chosen", BigInteger),
    Column("seen_at", BigInteger, nullable=False),
    Column("explanation_url", Text),
    Column("failures", Integer, nullable=False),
    Column("problem", Text, nullable=False),
    Index("windows_next_look", "next_look"),
)

pullers = Table(
    "pullers",
    metadata,
    Column("id", Text, primary_key=True),
    Column("signing_key", LargeBinary, nullable=False),
    Column("sealing_id", Text, nullable=False, unique=True),
    Column("sealing_key", LargeBinary, nullable=False),
    Column("host", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("enrolled_at", BigInteger, nullable=False),
    Column("last_seen_at", BigInteger),
    Column("token_id", Text, nullable=False),
    Column("reports_since", BigInteger, nullable=False, server_default="0"),
    Column("reports_count", Integer, nullable=False, server_default="0"),
    Column("copy_noted_at", BigInteger),
    Column("events_since", BigInteger, nullable=False, server_default="0"),
    Column("events_bytes", BigInteger, nullable=False, server_default="0"),
)

machines = Table(
    "machines",
    metadata,
    Column("puller", Text, ForeignKey("pullers.id"), nullable=False),
    Column("installation", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("first_seen", BigInteger, nullable=False),
    Column("last_seen", BigInteger, nullable=False),
    PrimaryKeyConstraint("puller", "installation"),
)

grants = Table(
    "grants",
    metadata,
    Column("puller", Text, ForeignKey("pullers.id"), nullable=False),
    Column("certificate", Text, ForeignKey("certificates.id"), nullable=False),
    Column("granted_at", BigInteger, nullable=False),
    Column("ahead_noted_at", BigInteger),
    PrimaryKeyConstraint("puller", "certificate"),
    Index("grants_certificate", "certificate"),
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", Text, primary_key=True),
    Column("public_key", LargeBinary, nullable=False),
    Column("certificates", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("redeemed_at", BigInteger),
    Column("redeemed_by", Text),
    Column("voided_at", BigInteger),
)

generations = Table(
    "generations",
    metadata,
    Column("certificate", Text, ForeignKey("certificates.id"), nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("names", Text, nullable=False),
    Column("key_origin", Text, nullable=False),
    Column("csr", LargeBinary, nullable=False),
    Column("spki_sha256", Text, nullable=False),
    Column("directory_url", Text, nullable=False),
    Column("profile", Text),
    Column("wanted", BigInteger, nullable=False),
    Column("recipients", Text, nullable=False),
    Column("prepared_at", BigInteger, nullable=False),
    Column("order_url", Text),
    Column("order_expires", BigInteger),
    Column("certificate_url", Text),
    Column("chain", Text),
    Column("leaf_sha256", Text),
    Column("serial", Text),
    Column("not_before", BigInteger),
    Column("not_after", BigInteger),
    Column("issued_at", BigInteger),
    Column("error", Text),
    Column("fence", BigInteger, nullable=False),
    Column("ari_id", Text),
    Column("account_url", Text),
    Column("replaces", Text),
    Column("replaced_by", BigInteger),
    Column("why", Text),
    Column("revoked_at", BigInteger),
    Column("revoked_reason", Text),
    PrimaryKeyConstraint("certificate", "generation"),
    Index("generations_state", "certificate", "state"),
    Index("generations_order", "order_url"),
    Index("generations_spki", "spki_sha256"),
)

sealed_keys = Table(
    "sealed_keys",
    metadata,
    Column("certificate", Text, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("puller", Text, ForeignKey("pullers.id"), nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    PrimaryKeyConstraint("certificate", "generation", "puller"),
)

csrs = Table(
    "csrs",
    metadata,
    Column("certificate", Text, ForeignKey("certificates.id"), primary_key=True),
    Column("puller", Text, ForeignKey("pullers.id")),
    Column("csr", LargeBinary),
    Column("spki_sha256", Text),
    Column("names", Text),
    Column("received_at", BigInteger),
    Column("refused_at", BigInteger),
    Column("refused_why", Text),
    Column("awaited_at", BigInteger),
    Column("urgent_at", BigInteger),
    Column("window_at", BigInteger, nullable=False),
    Column("window_count", Integer, nullable=False),
    Index("csrs_spki", "spki_sha256"),
)

bundles = Table(
    "bundles",
    metadata,
    Column("certificate", Text, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("puller", Text, ForeignKey("pullers.id"), nullable=False),
    Column("manifest_digest", Text, nullable=False),
    Column("envelope", LargeBinary, nullable=False),
    Column("first_fetched_at", BigInteger),
    Column("last_fetched_at", BigInteger),
    PrimaryKeyConstraint("puller", "certificate", "generation"),
    Index("bundles_certificate", "certificate", "generation"),
)

challenges = Table(
    "challenges",
    metadata,
    Column("token", Text, primary_key=True),
    Column("key_authorization", Text, nullable=False),
    Column("certificate", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("hits", BigInteger, nullable=False),
    Index("challenges_certificate", "certificate"),
)

receipts = Table(
    "receipts",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("puller", Text, ForeignKey("pullers.id"), nullable=False),
    Column("certificate", Text, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("digest", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("error", Text, nullable=False),
    Column("served", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Index("receipts_by_puller", "puller", "received_at"),
    Index("receipts_by_certificate", "certificate", "puller", "id"),
)

events = Table(
    "events",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("certificate", Text),
    Column("puller", Text),
    Column("details", Text, nullable=False),
    Column("previous_hash", Text, nullable=False),
    Column("hash", Text, nullable=False),
)

nonces = Table(
    "nonces",
    metadata,
    Column("puller", Text, nullable=False),
    Column("nonce", Text, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("puller", "nonce"),
    Index("nonces_expiry", "expires_at"),
)

persist_records = Table(
    "persist_records",
    metadata,
    Column("certificate", Text, ForeignKey("certificates.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("offer", Text, nullable=False),
    Column("verdict", Text, nullable=False),
    Column("words", Text, nullable=False),
    Column("until", BigInteger),
    Column("looked_at", BigInteger, nullable=False),
    Column("warned_days", Integer),
    PrimaryKeyConstraint("certificate", "name"),
)

direct_certificates = Table(
    "direct_certificates",
    metadata,
    Column("puller", Text, ForeignKey("pullers.id"), nullable=False),
    Column("certificate", Text, nullable=False),
    Column("names", Text, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("not_after", BigInteger, nullable=False),
    Column("leaf_sha256", Text),
    Column("next_renewal", BigInteger, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("error", Text, nullable=False),
    Column("served", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("received_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("puller", "certificate"),
)

access_tokens = Table(
    "access_tokens",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("digest", Text, nullable=False, unique=True),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("voided_at", BigInteger),
    Column("used_at", BigInteger),
)

alerts = Table(
    "alerts",
    metadata,
    Column("receiver", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("certificate", Text, nullable=False),
    Column("severity", Integer, nullable=False),
    Column("what", Text, nullable=False),
    Column("told_at", BigInteger, nullable=False),
    Column("gone_at", BigInteger),
    PrimaryKeyConstraint("receiver", "key"),
)

alert_receivers = Table(
    "alert_receivers",
    metadata,
    Column("name", Text, primary_key=True),
    Column("last_success_at", BigInteger, nullable=False),
    Column("last_failure_at", BigInteger, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("problem", Text, nullable=False),
)

facts = Table(
    "facts",
    metadata,
    Column("key", Text, primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("text", Text, nullable=False),
)
