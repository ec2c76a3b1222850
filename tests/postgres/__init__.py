"""A real PostgreSQL for tests: one server on the loopback."""

from __future__ import annotations

from tests.postgres.server import PostgresError, PostgresServer, binaries

__all__ = ["PostgresError", "PostgresServer", "binaries"]
