"""Renewal windows that CAs suggest (RFC 9773)."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the windows, and what tells why and by whose account a generation was ordered."""
    op.create_table(
        "windows",
        sa.Column("certificate", sa.Text(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("next_look", sa.BigInteger(), nullable=False),
        sa.Column("looked_at", sa.BigInteger(), nullable=False),
        sa.Column("window_start", sa.BigInteger(), nullable=True),
        sa.Column("window_end", sa.BigInteger(), nullable=True),
        sa.Column("chosen", sa.BigInteger(), nullable=True),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.Column("explanation_url", sa.Text(), nullable=True),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("problem", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["certificate"], ["certificates.id"]),
        sa.PrimaryKeyConstraint("certificate"),
    )
    op.create_index("windows_next_look", "windows", ["next_look"], unique=False)
    for name, kind in (
        ("ari_id", sa.Text()),
        ("account_url", sa.Text()),
        ("replaces", sa.Text()),
        ("replaced_by", sa.BigInteger()),
        ("why", sa.Text()),
    ):
        op.add_column("generations", sa.Column(name, kind, nullable=True))
    op.add_column("certificates", sa.Column("due_reason", sa.Text(), nullable=True))
    op.add_column("certificates", sa.Column("asked_until", sa.BigInteger(), nullable=True))
    op.execute(
        "INSERT INTO windows (certificate, generation, next_look, looked_at, seen_at, failures,"
        " problem) SELECT certificate, MAX(generation), 0, 0, 0, 0, '' FROM generations"
        " WHERE state = 'issued' GROUP BY certificate"
    )
