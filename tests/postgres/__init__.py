"""A real PostgreSQL for tests: one server on the loopback."""

from __future__ import annotations

from tests.postgres.server import PostgresServer, binaries

__all__ = ["PostgresServer", "binaries"]
