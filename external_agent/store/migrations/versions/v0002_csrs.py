"""CSRs that pullers leave ahead of time."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add what is new."""
    op.create_table(
        "csrs",
        sa.Column("certificate", sa.Text(), nullable=False),
        sa.Column("puller", sa.Text(), nullable=True),
        sa.Column("csr", sa.LargeBinary(), nullable=True),
        sa.Column("spki_sha256", sa.Text(), nullable=True),
        sa.Column("names", sa.Text(), nullable=True),
        sa.Column("received_at", sa.BigInteger(), nullable=True),
        sa.Column("refused_at", sa.BigInteger(), nullable=True),
        sa.Column("refused_why", sa.Text(), nullable=True),
        sa.Column("awaited_at", sa.BigInteger(), nullable=True),
        sa.Column("urgent_at", sa.BigInteger(), nullable=True),
        sa.Column("window_at", sa.BigInteger(), nullable=False),
        sa.Column("window_count", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["certificate"], ["certificates.id"]),
        sa.ForeignKeyConstraint(["puller"], ["pullers.id"]),
        sa.PrimaryKeyConstraint("certificate"),
    )
    op.create_index("csrs_spki", "csrs", ["spki_sha256"], unique=False)
    op.create_index("generations_spki", "generations", ["spki_sha256"], unique=False)
