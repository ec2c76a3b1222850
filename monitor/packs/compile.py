"""Problems that only the compiler of the core sees: SQL, column names that collide.

``detectors.topology.compile_pack`` is the authority and stops at the first error. To report all of
them, the entry it names is noted and left out, and the rest is compiled again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from detectors.compiled import compile_pack
from detectors.errors import ExpressionError, PackError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from detectors.pack import Pack
    from monitor.packs.document import EntryPath
    from monitor.packs.problems import Problem
    from monitor.packs.source import PackSource

__all__ = ["compile_problems"]

_MAX_PROBLEMS: Final = 50


@dataclass(frozen=True, slots=True)
class _Entry:
    """Where an entry is written, the columns it would have given, and the pack without it."""

    file: str
    path: EntryPath
    columns: frozenset[str]
    rest: Pack


def compile_problems(source: PackSource) -> Iterator[Problem]:
    """What the compiler refuses, by file and line.

    Columns that are missing only because of another error are left out.
    """
    pack = source.pack
    lost: set[str] = set()
    for _ in range(_MAX_PROBLEMS):
        try:
            compile_pack(pack)
        except PackError as error:
            entry = _entry(pack, source.pack, error)
            cause = error.__cause__
            follows = isinstance(cause, ExpressionError) and cause.unknown_column in lost
            if not follows:
                yield _problem(source, entry, error)
            lost |= entry.columns
            pack = entry.rest
        else:
            return


def _problem(source: PackSource, entry: _Entry, error: PackError) -> Problem:
    cause = error.__cause__
    if not isinstance(cause, ExpressionError):
        return source.problem(entry.file, entry.path, error.message, error.hint)
    message = f"{cause.message} at character {cause.position + 1} of {cause.sql!r}"
    return source.problem(entry.file, _sql_path(source.pack, entry, cause.sql), message, cause.hint)


def _sql_path(pack: Pack, entry: _Entry, sql: str) -> EntryPath:
    """The key of the entry that holds the SQL."""
    match entry.path:
        case ("features", int(index)):
            return (*entry.path, "of" if pack.features[index].of == sql else "where")
        case ("derived", int()):
            return (*entry.path, "sql")
        case ("rules", int()):
            return (*entry.path, "when")
        case ("limits", int()):
            return (*entry.path, "quantity")
        case _:
            return entry.path


def _entry(pack: Pack, whole: Pack, error: PackError) -> _Entry:
    """The entry that ``error.where`` names, such as ``rule generation-burst``."""
    kind, _, name = error.where.partition(" ")
    if kind == "limit" and name.startswith("column "):
        name = name.removeprefix("column over_")
    match kind:
        case "rule":
            return _Entry(
                "rules",
                ("rules", [rule.id for rule in whole.rules].index(name)),
                frozenset(),
                replace(pack, rules=tuple(r for r in pack.rules if r.id != name)),
            )
        case "derived":
            return _Entry(
                "features",
                ("derived", [derived.name for derived in whole.derived].index(name)),
                frozenset({name}),
                replace(pack, derived=tuple(d for d in pack.derived if d.name != name)),
            )
        case "feature":
            return _feature_entry(pack, whole, name)
        case "action" | "limit":
            return _limits_entry(pack, whole, kind, name)
        case "anomaly":
            return _Entry("features", ("anomaly",), frozenset(), replace(pack, anomaly=None))
        case _:
            raise error


def _feature_entry(pack: Pack, whole: Pack, name: str) -> _Entry:
    if name.startswith("column "):
        column = name.removeprefix("column ")
        name = next(f.name for f in reversed(pack.features) if column in _columns(f.name, pack))
    return _Entry(
        "features",
        ("features", [feature.name for feature in whole.features].index(name)),
        _columns(name, pack),
        replace(pack, features=tuple(f for f in pack.features if f.name != name)),
    )


def _columns(name: str, pack: Pack) -> frozenset[str]:
    """Every column that a feature of this name can give."""
    parts = ("", "_mean_s", "_cv", "_max_s")
    return frozenset(f"{name}{part}_{window.name}" for part in parts for window in pack.windows)


def _limits_entry(pack: Pack, whole: Pack, kind: str, name: str) -> _Entry:
    limits = pack.limits
    if kind == "action":
        gone = {limit.name for limit in limits.limits if limit.action == name}
        rest = {key: sql for key, sql in limits.actions.items() if key != name}
        path: EntryPath = ("actions", name)
    else:
        gone, rest = {name}, dict(limits.actions)
        path = ("limits", [limit.name for limit in whole.limits.limits].index(name))
    kept = tuple(limit for limit in limits.limits if limit.name not in gone)
    return _Entry(
        "limits",
        path,
        frozenset(f"over_{limit}" for limit in gone),
        replace(pack, limits=replace(limits, actions=rest, limits=kept)),
    )
