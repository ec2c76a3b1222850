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

    from detectors.pack import Pack, SharedSpec
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
            shared = pack.shared.features if pack.shared and entry.file == "shared" else None
            return (*entry.path, "of" if (shared or pack.features)[index].of == sql else "where")
        case ("keys" | "segments" | "traits", int()):
            return (*entry.path, "where")
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
        case "shared" | "segment" | "trait":
            return _shared_entry(pack, whole, error)
        case "derived" | "feature" if _is_shared(whole, kind, name):
            return _shared_entry(pack, whole, error)
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


def _is_shared(whole: Pack, kind: str, name: str) -> bool:
    """Whether an entry is one of ``shared.yaml``, not of ``features.yaml``."""
    if whole.shared is None:
        return False
    own, shared = (
        {entry.name for entry in (pack.derived if kind == "derived" else pack.features)}
        for pack in (whole, whole.shared)
    )
    name = name.removeprefix("column ")
    if kind == "feature" and name not in own | shared:  # it names a column
        return name in {c for feature in shared for c in _columns(feature, whole.shared)}
    return name in shared and name not in own


def _shared_entry(pack: Pack, whole: Pack, error: PackError) -> _Entry:
    """An entry of ``shared.yaml``."""
    assert pack.shared is not None
    assert whole.shared is not None
    name = error.where.rpartition(" ")[2]
    shared = pack.shared
    if error.where.startswith("shared key "):
        kept = replace(shared, keys=tuple(key for key in shared.keys if key.name != name))
        path: EntryPath = ("keys", [key.name for key in whole.shared.keys].index(name))
        gone: frozenset[str] = frozenset()
    elif error.where.startswith("trait "):
        kept = replace(shared, traits=tuple(one for one in shared.traits if one.name != name))
        path = ("traits", [one.name for one in whole.shared.traits].index(name))
        gone = frozenset()
    elif error.where.startswith("segment "):
        segments = tuple(part for part in shared.segments if part.name != name)
        kept = replace(shared, segments=segments)
        path = ("segments", [part.name for part in whole.shared.segments].index(name))
        gone = frozenset()
    elif error.where.startswith("derived "):
        kept = replace(shared, derived=tuple(d for d in shared.derived if d.name != name))
        path = ("derived", [derived.name for derived in whole.shared.derived].index(name))
        gone = frozenset({name})
    else:
        name = next(
            f.name
            for f in reversed(shared.features)
            if f.name == name or name in _columns(f.name, whole.shared)
        )
        kept = replace(shared, features=tuple(f for f in shared.features if f.name != name))
        path = ("features", [feature.name for feature in whole.shared.features].index(name))
        gone = _columns(name, whole.shared)
    return _Entry("shared", path, gone, replace(pack, shared=kept))


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


def _columns(name: str, pack: Pack | SharedSpec) -> frozenset[str]:
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
