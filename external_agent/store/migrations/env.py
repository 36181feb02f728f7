"""Runs the migrations inside the transaction that the store has begun."""

from __future__ import annotations

from alembic import context

from external_agent.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
