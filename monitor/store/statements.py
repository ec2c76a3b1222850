"""The statements that make rows of a JSON array, for SQLite and PostgreSQL.

Each takes the parameters ``rows`` (the array, text) and ``stored_ms``. Ids decide what is new:
running one again changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    Integer,
    Table,
    Text,
    and_,
    bindparam,
    case,
    cast,
    func,
    literal_column,
    or_,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.dml import Insert

from monitor.store.tables import ALERTS, DECISIONS, INCIDENT_UPDATES, INCIDENTS

__all__ = ["Statements"]

_NESTED: Final = {"anomaly_rank": ("anomaly", "rank")}


@dataclass(frozen=True, slots=True)
class Statements:
    """``by_table`` of one dialect: what stores alerts, updates, incidents and decisions."""

    by_table: dict[Table, Insert]

    @staticmethod
    def of(dialect: str) -> Statements:
        """Those for ``sqlite`` or ``postgresql``."""
        json = _Sqlite() if dialect == "sqlite" else _Postgresql()
        once = (ALERTS, INCIDENT_UPDATES, DECISIONS)
        statements: dict[Table, Insert] = {
            table: json.insert(table).on_conflict_do_nothing() for table in once
        }
        newest = json.insert(INCIDENTS)
        given = newest.excluded
        statements[INCIDENTS] = newest.on_conflict_do_update(
            index_elements=[INCIDENTS.c.incident_id],
            set_={c.name: given[c.name] for c in INCIDENTS.columns if not c.primary_key},
            # However they come: findings only grow, and closed is final.
            where=and_(
                INCIDENTS.c.state != "closed",
                or_(given.findings > INCIDENTS.c.findings, given.state == "closed"),
            ),
        )
        counted = {"preserve_rowcount": True}
        return Statements({t: s.execution_options(**counted) for t, s in statements.items()})


class _Sqlite:
    """JSON by ``json_each`` and ``json_extract``."""

    def insert(self, table: Table) -> sqlite.Insert:
        array = func.json_each(bindparam("rows", type_=Text)).table_valued("value", name="given")
        columns = [self._column(array, table, name) for name in table.columns.keys()]  # noqa: SIM118
        # Without a condition, SQLite would read ON CONFLICT as the condition of a join.
        rows = select(*columns).select_from(array).where(literal_column("true"))
        return sqlite.insert(table).from_select(list(table.columns), rows)

    def _column(self, array: FromClause, table: Table, name: str) -> ColumnElement[object]:
        value: ColumnElement[object] = array.c.value
        if name == "stored_ms":
            return bindparam("stored_ms", type_=BigInteger)
        if name == "record":
            return value
        if name == "members":
            told = func.json_array_length(value, "$.group.members")
            return told + func.json_extract(value, "$.group.members_left_out")
        return func.json_extract(value, "$." + ".".join(_NESTED.get(name, (name,))))


class _Postgresql:
    """JSON by ``jsonb_array_elements`` and ``#>>``."""

    def insert(self, table: Table) -> postgresql.Insert:
        text = cast(bindparam("rows", type_=Text), JSONB)
        array = func.jsonb_array_elements(text).table_valued("value", name="given")
        columns = [self._column(array, table, name) for name in table.columns.keys()]  # noqa: SIM118
        rows = select(*columns).select_from(array)
        return postgresql.insert(table).from_select(list(table.columns), rows)

    def _column(self, array: FromClause, table: Table, name: str) -> ColumnElement[object]:
        value = cast(array.c.value, JSONB)
        if name == "stored_ms":
            return bindparam("stored_ms", type_=BigInteger)
        if name == "record":
            return value
        if name == "members":
            members = value[("group", "members")]
            left_out = cast(value[("group", "members_left_out")].astext, Integer)
            is_list = func.jsonb_typeof(members) == "array"
            return case((is_list, func.jsonb_array_length(members) + left_out))
        found = value[_NESTED.get(name, (name,))].astext
        wanted = table.c[name].type
        return found if isinstance(wanted, Text) else cast(found, wanted)
