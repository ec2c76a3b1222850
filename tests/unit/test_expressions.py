"""SQL over columns: what is accepted, what is refused and how, what is shown as evidence."""

from __future__ import annotations

import polars as pl
import pytest

from detectors.errors import ExpressionError
from detectors.expressions import comparisons, parse

SCHEMA = {
    "made": pl.Float64(),
    "rate": pl.Float64(),
    "tier": pl.String(),
    "limited": pl.Boolean(),
    "type": pl.Enum(["share.created", "share.removed"]),
}

ROWWISE = [
    "made >= 3",
    "made between 2 and 5 and tier in ('free', 'plus')",
    "not limited or tier like 'ent%'",
    "coalesce(rate, 0) / greatest(made, 1) > 0.5",
    "case when made > 3 then rate > 1 else limited end",
    "abs(made - rate) > sqrt(made) and tier is not null",
    "type = 'share.created'",
    "try_cast(tier as int) > 3",
    "round(rate) % 2 = 0",
    "true",
]
NOT_ROWWISE = [
    "made > avg(made)",
    "count(*) > 3",
    "sum(made) > 3",
    "row_number() over (order by made) > 3",
    "lag(made) over (order by made) > 1",
    "made > (select 1)",
    "now() > '2026-01-01'",
    "cast(current_date as bigint) > 3",
    "first(made) > 1",
    "cast(tier as int) > 3",
]


@pytest.mark.parametrize("sql", ROWWISE)
def test_row_by_row_expressions_do_not_look_at_other_rows(sql: str) -> None:
    """Evaluated on a whole table or row by row: the same."""
    frame = pl.DataFrame(
        {
            "made": [1.0, 4.0, None, 9.0],
            "rate": [0.2, 3.0, 1.0, None],
            "tier": ["free", "enterprise", None, "7"],
            "limited": [True, False, None, True],
            "type": ["share.created", "share.removed", None, "share.created"],
        },
        schema=SCHEMA,
    )
    expression = parse(sql, SCHEMA, "boolean")
    whole = frame.select("made", expression.expr.alias("holds"))["holds"].to_list()
    rows = [frame[i : i + 1].select("made", expression.expr.alias("holds")) for i in range(4)]
    assert whole == [row["holds"][0] for row in rows]


@pytest.mark.parametrize("sql", NOT_ROWWISE)
def test_what_is_not_row_by_row_is_refused(sql: str) -> None:
    """Aggregates, windows, the clock, and casts that can fail on one row."""
    with pytest.raises(ExpressionError):
        parse(sql, SCHEMA, "boolean")


def test_an_unknown_column_is_refused_with_its_place_and_a_near_match() -> None:
    """The message says what, where, and what was probably meant."""
    with pytest.raises(ExpressionError) as caught:
        parse("made > 3 and teir = 'free'", SCHEMA, "boolean")
    assert caught.value.position == 13
    assert caught.value.unknown_column == "teir"
    assert "did you mean 'tier'?" in str(caught.value)
    assert "at character 14" in str(caught.value)


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("made + 1", "not a boolean"),
        ("tier > 3 and", "not a SQL expression"),
        ("made > 3" + " or made > 3" * 500, "4096 at most"),
        ("type = 'share.creeted'", "did you mean 'share.created'"),
    ],
)
def test_other_mistakes_are_refused(sql: str, message: str) -> None:
    """Not a condition, not SQL, endless, a value that the column never has."""
    with pytest.raises(ExpressionError, match=message):
        parse(sql, SCHEMA, "boolean")


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("made >= 3 and tier != 'pro'", ["made >= 3", "tier != pro"]),
        ("5 < made or not limited", ["made > 5", "limited = False"]),
        ("not (made > 3) and limited", ["made <= 3", "limited = True"]),
        ("rate >= 0.25", ["rate >= 0.25"]),
        ("made / greatest(rate, 1) > 3 and coalesce(limited, false)", []),
        ("made between 2 and 5", ["made >= 2", "made <= 5"]),
    ],
)
def test_comparisons_are_the_conditions_as_they_read(sql: str, expected: list[str]) -> None:
    """Negations are resolved; what is inside of arithmetic is no condition of its own."""
    found = comparisons(parse(sql, SCHEMA, "boolean"))
    assert [f"{c.column} {c.operator} {c.threshold}" for c in found] == expected
