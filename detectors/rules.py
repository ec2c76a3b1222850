"""Rules: SQL boolean expressions over the columns of an event, its features, limits and scores.

All rules of a key space are evaluated at once by Polars over the rows of a batch. A rule that
cannot be evaluated on a batch is counted and silent; the others go on.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl
from polars.exceptions import PolarsError

from detectors.errors import ExpressionError, PackError
from detectors.expressions import Comparison, Expression, comparisons, evaluate, extend, parse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from detectors.pack import RuleSpec

__all__ = ["Condition", "Held", "Rule", "Rules", "compile_rules"]

_COMPARE: Final = {
    "=": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}


@dataclass(frozen=True, slots=True)
class Condition:
    """One comparison of a rule with the value it met: the evidence of an alert."""

    column: str
    operator: str
    threshold: float | str | bool | None
    value: float | str | bool | None
    holds: bool

    def __str__(self) -> str:
        if self.operator == "=" and self.holds:
            return f"{self.column} = {_shown(self.value)}"
        return f"{self.column} {_shown(self.value)} {self.operator} {_shown(self.threshold)}"


@dataclass(frozen=True, slots=True)
class Rule:
    """A compiled rule. ``version`` is cached here: it goes into every id."""

    spec: RuleSpec
    version: str
    when: Expression
    comparisons: tuple[Comparison, ...]

    def evidence(self, row: Mapping[str, Any]) -> tuple[Condition, ...]:
        """The rule's comparisons with the values of one row; first those that hold."""
        conditions = [
            Condition(
                column=c.column,
                operator=c.operator,
                threshold=c.threshold,
                value=row[c.column],
                holds=_holds(c, row[c.column]),
            )
            for c in self.comparisons
        ]
        named = {condition.column for condition in conditions}
        conditions += [
            Condition(column, "=", row[column], row[column], holds=True)
            for column in sorted(self.when.columns - named)
        ]
        return tuple(sorted(conditions, key=lambda condition: not condition.holds))


@dataclass(frozen=True, slots=True)
class Held:
    """Where rules held in a batch: positions and rule indices, in log order; and what failed."""

    positions: npt.NDArray[np.int64]
    rules: npt.NDArray[np.int64]
    errors: dict[str, str]


class Rules:
    """The compiled rules of one key space."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = tuple(rules)
        self._select = [rule.when.expr.alias(rule.spec.id) for rule in self.rules]

    def __len__(self) -> int:
        return len(self.rules)

    def held(self, frame: pl.DataFrame, eligible: npt.NDArray[np.bool_]) -> Held:
        """Evaluate every rule at every ``eligible`` row of ``frame`` (n rows)."""
        errors: dict[str, str] = {}
        if not self.rules:
            nothing = np.zeros(0, dtype=np.int64)
            return Held(nothing, nothing, errors)
        matrix = np.zeros((len(frame), len(self.rules)), dtype=np.bool_)
        try:
            # A rule can be a constant; with a column beside it, it gets as many rows.
            results = evaluate(frame, [pl.col("event_id"), *self._select]).drop("event_id")
        except PolarsError:
            results = pl.DataFrame(
                [self._one(frame, index, errors) for index in range(len(self.rules))]
            )
        fired = results.select(pl.all().any()).row(0)
        for index in np.flatnonzero(fired).tolist():
            matrix[:, index] = results.to_series(index).fill_null(value=False).to_numpy()
        matrix &= eligible[:, None]
        positions, rules = np.nonzero(matrix)
        return Held(positions, rules, errors)

    def _one(self, frame: pl.DataFrame, index: int, errors: dict[str, str]) -> pl.Series:
        rule_id = self.rules[index].spec.id
        try:
            return extend(frame, [self._select[index]])[rule_id]
        except PolarsError as error:
            errors[rule_id] = str(error).splitlines()[0]
            return pl.Series(rule_id, np.zeros(len(frame), dtype=np.bool_))


def compile_rules(specs: Sequence[RuleSpec], schema: Mapping[str, pl.DataType]) -> Rules:
    """Compile rules over the columns of ``schema``.

    Raises:
        PackError: SQL that cannot be used, an id used twice or equal to a column.
    """
    compiled: dict[str, Rule] = {}
    for spec in specs:
        where = f"rule {spec.id}"
        if spec.id in compiled or spec.id in schema:
            raise PackError(f"id {spec.id!r} is taken", where=where, hint="choose another id")
        try:
            when = parse(spec.when, schema, "boolean")
        except ExpressionError as error:
            raise PackError(str(error), where=where) from error
        compiled[spec.id] = Rule(spec, spec.version, when, comparisons(when))
    return Rules(list(compiled.values()))


def _holds(comparison: Comparison, value: Any) -> bool:  # noqa: ANN401 - a cell of any column
    if value is None:
        return False
    return bool(_COMPARE[comparison.operator](value, comparison.threshold))


def _shown(value: float | str | bool | None) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 10_000 else f"{value:.0f}"
    return str(value)
