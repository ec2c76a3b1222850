"""Flat event columns as the nested JSON of the wire, whole columns at a time.

The inverse of ``monitor.wire``: where a value goes is said by ``Column.path``.
"""

from __future__ import annotations

from typing import Final, TypeAlias, Union

import polars as pl

from detectors.events import COLUMNS, FEEDBACK_TYPES, GENERATION_TYPES, SHARE_TYPES

__all__ = ["to_wire_json"]

_Tree: TypeAlias = dict[str, Union[pl.Expr, "_Tree"]]

_BODIES: Final = {
    "generation": GENERATION_TYPES,
    "share": SHARE_TYPES,
    "feedback": FEEDBACK_TYPES,
}
_LIST_MARK: Final = "[0]"
_NULL_MEMBER: Final = r',"[a-z0-9_]+":null'
"""A member without a value. Quotes inside of strings are escaped, so strings never match."""


def to_wire_json(events: pl.DataFrame) -> pl.Series:
    """One JSON object (String) for each row of ``events`` (``detectors.events`` columns).

    An object has the body that its type asks for and no other; members without a value are left
    out. The same row gives the same text whatever rows are around it.
    """
    parts: list[pl.DataFrame] = []
    for body, types in _BODIES.items():
        rows = events.with_row_index("_row").filter(pl.col("type").is_in(types))
        if rows.height:
            text = _struct(_members(body)).struct.json_encode().str.replace_all(_NULL_MEMBER, "")
            parts.append(rows.select(pl.col("_row"), text.alias("json")))
    if not parts:
        return pl.Series("json", [], dtype=pl.String)
    return pl.concat(parts).sort("_row").to_series(1)


def _members(body: str) -> _Tree:
    """The members of an event with ``body``, nested as ``Column.path`` says."""
    tree: _Tree = {}
    for column in COLUMNS:
        *folders, name = column.path.split(".")
        if folders and folders[0] in _BODIES and folders[0] != body:
            continue
        value = pl.col(column.name)
        if name.endswith(_LIST_MARK):
            name = name.removesuffix(_LIST_MARK)
            value = pl.concat_list(value).list.drop_nulls()
        branch = tree
        for folder in folders:
            inner = branch.setdefault(folder, {})
            assert isinstance(inner, dict), f"{column.path} lies inside of a value"
            branch = inner
        branch[name] = value
    if body == "feedback":
        feedback = tree["feedback"]
        assert isinstance(feedback, dict)
        # The one column that two bodies share: a report names the video that it is about.
        feedback["asset_id"] = pl.col("asset_id")
    return tree


def _struct(tree: _Tree, depth: int = 0) -> pl.Expr:
    """An object of the members; below the bodies it is null where its first member is."""
    fields: list[pl.Expr] = []
    for name, member in tree.items():
        value = _struct(member, depth + 1) if isinstance(member, dict) else member
        fields.append(value.alias(name))
    whole = pl.struct(fields)
    if depth < 2:
        return whole
    first = next(iter(tree.values()))
    assert isinstance(first, pl.Expr), "the first member of an inner object is a value"
    return pl.when(first.is_not_null()).then(whole)
