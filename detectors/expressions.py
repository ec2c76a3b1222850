"""SQL expressions over columns, checked when they are loaded.

Polars parses and evaluates them (vectorised). What this module adds is the refusal of anything
whose value at a row could depend on other rows or on the clock: results must not depend on how a
partition is cut into batches. The check is an allow-list over the expression's own syntax tree,
so whatever Polars learns to do next is refused until someone has thought about it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import polars as pl
from polars.exceptions import PolarsError

from detectors.errors import ExpressionError, near_match

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["Comparison", "Expression", "Kind", "comparisons", "evaluate", "extend", "parse"]

Kind: TypeAlias = Literal["boolean", "number", "any"]
Node: TypeAlias = "dict[str, Node] | list[Node] | str | int | float | bool | None"

_OPERATORS: Final = {
    "Eq": "=",
    "NotEq": "!=",
    "Gt": ">",
    "GtEq": ">=",
    "Lt": "<",
    "LtEq": "<=",
}
_MIRRORED: Final = {">": "<", ">=": "<=", "<": ">", "<=": ">=", "=": "=", "!=": "!="}
_NEGATED: Final = {">": "<=", ">=": "<", "<": ">=", "<=": ">", "=": "!=", "!=": "="}
_ROWWISE_FUNCTIONS: Final = frozenset(
    {"Abs", "Ceil", "Coalesce", "Exp", "FillNull", "Floor", "Log", "MaxHorizontal"}
    | {"MinHorizontal", "Sign", "IsNull", "IsNotNull", "IsIn", "Not", "IsBetween", "IsFinite"}
    | {"IsNan", "IsNotNan", "And", "Or"}
    | {"Contains", "StartsWith", "EndsWith", "LenBytes", "LenChars", "Uppercase", "Lowercase"}
    | {"Slice", "ConcatHorizontal", "Generic", "Sqrt", "Cbrt"}
    | {"Round", "ToFloat", "Binary"}
)
_FUNCTION_FAMILIES: Final = frozenset({"Boolean", "StringExpr", "Sql", "Pow"})
_CLOCK_LITERALS: Final = frozenset({"Date", "Datetime", "Time", "Duration"})
_DECIMAL: Final = re.compile(r"(?<![\w.])(\d+\.\d+)(?![\w.])")
_SQL_STRING: Final = re.compile(r"('(?:[^']|'')*')")
_MAX_SQL_CHARACTERS: Final = 4_096


@dataclass(frozen=True, slots=True)
class Expression:
    """A checked row-by-row SQL expression: its text, its Polars form, the columns it reads."""

    sql: str
    expr: pl.Expr
    columns: frozenset[str]
    dtype: pl.DataType


@dataclass(frozen=True, slots=True)
class Comparison:
    """One ``column operator literal`` of an expression, for evidence."""

    column: str
    operator: str
    threshold: float | str | bool


def evaluate(frame: pl.DataFrame, expressions: Sequence[pl.Expr]) -> pl.DataFrame:
    """The values of expressions at n rows: the same at a row whatever other rows there are.

    Polars divides several rows by a number by multiplying with its reciprocal, a single row (or a
    chunk of one) by dividing: the last bit differs. So a single row is computed with an empty one
    beside it (two equal ones would be taken for a constant, and that again for a single row).
    """
    if len(frame) != 1:
        return frame.select(expressions)
    return _not_alone(frame).select(expressions)[:1]


def extend(frame: pl.DataFrame, expressions: Sequence[pl.Expr]) -> pl.DataFrame:
    """``frame`` with the values of expressions as further columns; see ``evaluate``."""
    if len(frame) != 1:
        return frame.with_columns(expressions)
    return _not_alone(frame).with_columns(expressions)[:1]


def _not_alone(row: pl.DataFrame) -> pl.DataFrame:
    return pl.concat((row, row.clear(1)), rechunk=True)


def parse(sql: str, schema: Mapping[str, pl.DataType], kind: Kind) -> Expression:
    """Parse ``sql`` over the columns of ``schema``; its value must be of the given ``kind``.

    Raises:
        ExpressionError: not SQL, an unknown column, not row by row, or of another type.
    """
    if len(sql) > _MAX_SQL_CHARACTERS:
        raise ExpressionError(
            f"expression of {len(sql)} characters, {_MAX_SQL_CHARACTERS} at most", sql=sql[:80]
        )
    try:
        expr = pl.sql_expr(_float_literals(sql))
        tree = json.loads(expr.meta.serialize(format="json"))
    except PolarsError as error:
        raise ExpressionError(f"not a SQL expression: {error}", sql=sql) from error
    for column in expr.meta.root_names():
        if column not in schema:
            raise ExpressionError(
                f"unknown column {column!r}",
                sql=sql,
                position=_position(sql, column),
                hint=near_match(column, schema) or "see `floodwatch rules columns`",
                unknown_column=column,
            )
    _refuse_what_is_not_row_by_row(tree, sql)
    _refuse_unknown_categories(tree, schema, sql)
    dtype = _dtype(expr, schema, sql)
    if not _is_kind(dtype, kind):
        raise ExpressionError(
            f"the value is {dtype}, not a {kind}",
            sql=sql,
            hint="compare it with something" if kind == "boolean" else "",
        )
    return Expression(sql, expr, frozenset(expr.meta.root_names()), dtype)


def comparisons(expression: Expression) -> tuple[Comparison, ...]:
    """Every ``column operator literal`` in the expression, in reading order."""
    tree = json.loads(expression.expr.meta.serialize(format="json"))
    return tuple(_comparisons(tree))


def _refuse_unknown_categories(node: Node, schema: Mapping[str, pl.DataType], sql: str) -> None:
    """Polars lets a category be compared with one that does not exist: never true, a typo."""
    match node:
        case {"BinaryExpr": {"left": {"Column": str(name)}, "right": {"Literal": literal}}}:
            dtype, value = schema[name], _literal(literal)
            if isinstance(dtype, pl.Enum) and value not in dtype.categories.to_list():
                known = dtype.categories.to_list()
                raise ExpressionError(
                    f"{name} is never {value!r}",
                    sql=sql,
                    position=_position(sql, name),
                    hint=near_match(str(value), known) or f"it is one of {', '.join(known)}",
                )
        case dict():
            for child in node.values():
                _refuse_unknown_categories(child, schema, sql)
        case list():
            for child in node:
                _refuse_unknown_categories(child, schema, sql)


def _float_literals(sql: str) -> str:
    """Write ``2.5`` as ``2.5e0``: Polars reads the former as an (exact, slow) decimal."""
    parts = _SQL_STRING.split(sql)
    return "".join(part if part.startswith("'") else _DECIMAL.sub(r"\1e0", part) for part in parts)


def _position(sql: str, name: str) -> int:
    found = re.search(rf"\b{re.escape(name)}\b", sql)
    return found.start() if found else 0


def _dtype(expr: pl.Expr, schema: Mapping[str, pl.DataType], sql: str) -> pl.DataType:
    try:
        frame = pl.DataFrame(schema=dict(schema))
        return frame.select(expr.alias("value")).schema["value"]
    except PolarsError as error:
        first_line = str(error).splitlines()[0]
        raise ExpressionError(f"types do not fit: {first_line}", sql=sql) from error


def _is_kind(dtype: pl.DataType, kind: Kind) -> bool:
    if kind == "boolean":
        return dtype == pl.Boolean
    if kind == "number":
        return dtype.is_numeric() or dtype == pl.Boolean
    return True


def _refuse_what_is_not_row_by_row(node: Node, sql: str) -> None:
    def refuse(what: str, hint: str) -> None:
        raise ExpressionError(f"{what} is not row by row", sql=sql, hint=hint)

    if isinstance(node, list):
        for child in node:
            _refuse_what_is_not_row_by_row(child, sql)
        return
    if not isinstance(node, dict):
        refuse(str(node), "aggregates and counts belong into features.yaml")
        return
    for name, body in node.items():
        match name, body:
            case ("Column", _):
                pass
            case ("Literal", _):
                if _CLOCK_LITERALS & _keys(body):
                    refuse("a date or the clock", "time comes in events: compare time_ms")
            case ("BinaryExpr", {"left": left, "right": right}):
                _refuse_what_is_not_row_by_row([left, right], sql)
            case ("Ternary", {"predicate": test, "truthy": yes, "falsy": no}):
                _refuse_what_is_not_row_by_row([test, yes, no], sql)
            case ("Cast", {"expr": inner, "options": options, "dtype": dtype}):
                if options == "Strict" and dtype != {"Literal": "Boolean"}:
                    refuse("a cast that can fail", "use try_cast(x AS type)")
                _refuse_what_is_not_row_by_row(inner, sql)
            case ("Function", {"input": inputs, "function": function}):
                if not _is_rowwise(function):
                    refuse(f"function {json.dumps(function)}", "use arithmetic and comparisons")
                _refuse_what_is_not_row_by_row(inputs, sql)
            case _:
                refuse(name, "aggregates and windows belong into features.yaml")


def _is_rowwise(function: Node) -> bool:
    """Whether a function node, such as ``{"Boolean": "IsNull"}``, is on the allow-list."""
    if isinstance(function, str):
        return function in _ROWWISE_FUNCTIONS
    if isinstance(function, dict) and len(function) == 1:
        name, body = next(iter(function.items()))
        if name in _FUNCTION_FAMILIES:
            return _is_rowwise(body)
        return name in _ROWWISE_FUNCTIONS
    return False


def _keys(node: Node) -> set[str]:
    if isinstance(node, dict):
        return set(node) | {key for child in node.values() for key in _keys(child)}
    if isinstance(node, list):
        return {key for child in node[:8] for key in _keys(child)}
    return set()


def _comparisons(node: Node, *, negated: bool = False) -> Iterator[Comparison]:
    """Comparisons where they decide: below AND, OR and NOT, not inside of arithmetic."""
    match node:
        case {"BinaryExpr": {"left": left, "op": "And" | "Or", "right": right}}:
            yield from _comparisons(left, negated=negated)
            yield from _comparisons(right, negated=negated)
        case {"BinaryExpr": {"left": left, "op": str(op), "right": right}}:
            yield from _comparison(left, op, right, negated=negated)
        case {"Function": {"input": [inner], "function": {"Boolean": "Not"}}}:
            yield from _comparisons(inner, negated=not negated)
        case {"Function": {"input": [left, right], "function": {"Sql": {"Binary": str(op)}}}}:
            yield from _comparison(left, op, right, negated=negated)
        case {"Cast": {"expr": inner}}:
            yield from _comparisons(inner, negated=negated)
        case {"Column": str(name)}:
            yield Comparison(name, "=", not negated)


def _comparison(left: Node, op: str, right: Node, *, negated: bool) -> Iterator[Comparison]:
    operator = _OPERATORS.get(op, "")
    match left, right:
        case ({"Column": str(name)}, {"Literal": literal}):
            pass
        case ({"Literal": literal}, {"Column": str(name)}):
            operator = _MIRRORED.get(operator, "")
        case _:
            return
    value = _literal(literal)
    if operator and value is not None:
        yield Comparison(name, _NEGATED[operator] if negated else operator, value)


def _literal(node: Node) -> float | str | bool | None:
    while isinstance(node, dict) and len(node) == 1:
        node = next(iter(node.values()))
    return node if isinstance(node, (int, float, str, bool)) else None
