"""Certificates that pullers get themselves; persistent records."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add what is new."""
    op.create_table(
        "persist_records",
        sa.Column("certificate", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("offer", sa.Text(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("words", sa.Text(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=True),
        sa.Column("looked_at", sa.BigInteger(), nullable=False),
        sa.Column("warned_days", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["certificate"], ["certificates.id"]),
        sa.PrimaryKeyConstraint("certificate", "name"),
    )
    op.create_table(
        "direct_certificates",
        sa.Column("puller", sa.Text(), nullable=False),
        sa.Column("certificate", sa.Text(), nullable=False),
        sa.Column("names", sa.Text(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("not_after", sa.BigInteger(), nullable=False),
        sa.Column("leaf_sha256", sa.Text(), nullable=True),
        sa.Column("next_renewal", sa.BigInteger(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("served", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["puller"], ["pullers.id"]),
        sa.PrimaryKeyConstraint("puller", "certificate"),
    )
