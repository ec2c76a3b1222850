"""What can go wrong with the store."""

from __future__ import annotations

__all__ = [
    "AuditError",
    "StoreError",
    "StoreRejectedError",
    "StoreSchemaError",
    "StoreUnavailableError",
    "UnknownIncidentError",
]


class StoreError(Exception):
    """The database cannot be opened, read or written; the message says which and what to do."""


class StoreUnavailableError(StoreError):
    """The database does not answer, or not as it should: trying again later may help."""


class StoreRejectedError(StoreError):
    """The database refused what was written: trying again will not help."""


class StoreSchemaError(StoreError):
    """The tables are not those that this program knows."""


class AuditError(StoreError):
    """The chain of the audit is broken."""


class UnknownIncidentError(StoreError):
    """There is no such incident, or more than one."""
