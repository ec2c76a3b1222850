"""How Alembic runs the steps: in the one transaction that ``monitor.store.schema`` has begun."""

from __future__ import annotations

from alembic import context

__all__: list[str] = []

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
