"""Several CAs for a certificate; account keys that change; revocations."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add what is new; a certificate without a list has its one CA."""
    with op.batch_alter_table("accounts") as accounts:
        accounts.add_column(sa.Column("thumbprint", sa.Text(), nullable=True))
        accounts.add_column(sa.Column("status", sa.Text(), nullable=False, server_default="valid"))
    with op.batch_alter_table("certificates") as certificates:
        certificates.add_column(sa.Column("cas", sa.Text(), nullable=True))
        certificates.add_column(sa.Column("troubles", sa.Text(), nullable=True))
    with op.batch_alter_table("generations") as generations:
        generations.add_column(sa.Column("revoked_at", sa.BigInteger(), nullable=True))
        generations.add_column(sa.Column("revoked_reason", sa.Text(), nullable=True))
