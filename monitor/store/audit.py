"""The audit: what people did, each row hashed together with the row before it.

A row that is changed, removed or slipped in breaks the chain from there on. What the chain alone
cannot show is that its end was cut off: note the last hash elsewhere, and give it to ``verify``.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
from sqlalchemy import Connection, insert, select, text

from monitor.store.engine import reading
from monitor.store.errors import AuditError
from monitor.store.tables import AUDIT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Engine, Row

__all__ = ["AuditHead", "append_audit", "lock_audit", "verify_audit"]

_FIRST: Final = "0" * 64
_LOCK: Final = 0x6175646974  # "audit": one row at a time


@dataclass(frozen=True, slots=True)
class AuditHead:
    """How many rows there are, and the hash of the last."""

    count: int
    hash: str


def lock_audit(connection: Connection) -> None:
    """Have the audit to ourselves until the transaction ends. SQLite has one writer anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})


def append_audit(
    connection: Connection,
    *,
    time_ms: int,
    author: str,
    action: str,
    incident_id: str,
    content: Mapping[str, Any],
) -> None:
    """Add a row, in the transaction that does what it is about and that called ``lock_audit``."""
    last = select(AUDIT.c.number, AUDIT.c.hash).order_by(AUDIT.c.number.desc()).limit(1)
    number, previous = connection.execute(last).one_or_none() or (0, _FIRST)
    row = {
        "number": number + 1,
        "time_ms": time_ms,
        "author": author,
        "action": action,
        "incident_id": incident_id,
        "content": msgspec.json.encode(content, order="sorted").decode(),
        "previous": previous,
    }
    connection.execute(insert(AUDIT), {**row, "hash": _hash(row)})


def verify_audit(engine: Engine, expected: str = "") -> AuditHead:
    """Go through the chain. ``expected`` is a hash noted before: it must be in the chain.

    Raises:
        AuditError: the chain is broken; the message says where.
    """
    count, previous, seen = 0, _FIRST, not expected
    chain = select(AUDIT).order_by(AUDIT.c.number).execution_options(yield_per=1_000)
    with reading(engine) as connection, connection.execute(chain) as rows:
        for row in rows:
            count += 1
            problem = _problem(row, count, previous)
            if problem:
                raise AuditError(f"audit: {problem}: it was changed after it was written")
            previous = row.hash
            seen = seen or previous == expected
    if not seen:
        raise AuditError(
            f"audit: the hash {expected} is not in the chain of {count} rows: its end was cut off, "
            "or it is another chain"
        )
    return AuditHead(count, previous)


def _problem(row: Row[Any], number: int, previous: str) -> str:
    values = row._mapping  # noqa: SLF001 - the documented way to a row's names
    if values["number"] != number:
        return f"row {number} is missing (the next one is {values['number']})"
    if values["previous"] != previous:
        return f"row {number} does not follow row {number - 1}"
    if values["hash"] != _hash({name: values[name] for name in values if name != "hash"}):
        return f"row {number} is not what its hash says"
    return ""


def _hash(row: Mapping[str, Any]) -> str:
    return hashlib.sha256(msgspec.json.encode(row, order="sorted")).hexdigest()
