"""Shared keys of a pack, ready to run: what becomes of an event's asset, link or network.

A *trace* is one actor touching one shared key. The features of shared keys are declared as those of
users are, but for the traces of a key; rules of a key space (``key: asset``) read them. A rule of
``segment`` reads the volume of a part of the traffic.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import polars as pl

from detectors.batch import CORE_COLUMNS
from detectors.errors import ExpressionError, PackError, near_match
from detectors.expressions import Expression, parse
from detectors.features import FeaturePlan, plan_features
from detectors.pack import CAMPAIGN_SPACE, RESERVED_SPACES, SEGMENT_SPACE
from detectors.rules import Rule, Rules, compile_rules
from detectors.volume import VolumeSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from detectors.pack import (
        DerivedSpec,
        Pack,
        RuleSpec,
        SharedKeySpec,
        SharedSpec,
        TraitSpec,
    )

__all__ = [
    "CAMPAIGN_COLUMNS",
    "SEGMENT_COLUMNS",
    "SWARM_COLUMNS",
    "CompiledSegment",
    "CompiledShared",
    "SharedKey",
    "Trait",
    "compile_shared",
    "horizon_names",
]

SWARM_COLUMNS: Final = {
    "swarm_actors": "Different users of the key within a minute (or ten, if that says more).",
    "swarm_expected": "How many of them are usual on the key and on keys of its kind.",
    "swarm_score": "How rare so many are by chance, 0 to 1: 0.99 once in 100 days.",
}
"""Columns at every trace that the swarm detector writes."""

CAMPAIGN_COLUMNS: Final = {
    "campaign_members": "Users who belong to it.",
    "campaign_keys": "Keys that hold them together.",
    "campaign_spaces": "Kinds of keys that agree.",
    "campaign_actions": "What they did on these keys.",
    "campaign_ties": "Pairs who met on different keys more often than chance explains.",
    "campaign_weight": "Meetings on different keys of such a pair (median).",
    "campaign_expected": "Meetings that chance explains (mean).",
    "campaign_q": "The largest false discovery rate among these pairs.",
    "campaign_swarm_actors": "Users in its largest swarm.",
    "campaign_swarm_expected": "How many were to be expected there.",
    "campaign_swarm_score": "How rare that is by chance, 0 to 1.",
    "campaign_median_gap_s": "Between one member and the next, median, s.",
    "campaign_p90_gap_s": "Nine of ten are shorter, s.",
    "campaign_duration_s": "From its first to its newest action, s.",
}
"""Columns of a campaign whenever it opens or grows.

For each trait NAME of the pack there are ``campaign_NAME_share`` and ``campaign_NAME_usual`` too.
"""

_TRACE_COLUMNS: Final = ("event_id", "type", "time_ms", "user_id", "tier")
_MOST_KEYS: Final = 32


def horizon_names(settings: VolumeSettings) -> tuple[str, ...]:
    """``1m``, ``10m``, ``1h``."""
    return tuple(
        f"{ms // 3_600_000}h" if ms % 3_600_000 == 0 else f"{ms // 60_000}m"
        for ms in settings.horizons_ms
    )


def _segment_columns(settings: VolumeSettings) -> dict[str, str]:
    columns = {
        "volume_score": "How rare so many events are by chance, 0 to 1: 0.999 once in 1,000 days.",
        "volume_shift_score": "The same for so many or so few.",
    }
    for name in horizon_names(settings):
        columns[f"volume_count_{name}"] = f"Events of the segment in the last {name}."
        columns[f"volume_expected_{name}"] = "How many are usual at this time."
        columns[f"volume_ratio_{name}"] = "Count against what is usual."
    return columns


SEGMENT_COLUMNS: Final = _segment_columns(VolumeSettings())
"""Columns of a segment whenever a minute of it is over."""


@dataclass(frozen=True, slots=True)
class SharedKey:
    """A key space: at which events there is a key (boolean), and how it is made."""

    spec: SharedKeySpec
    where: Expression


@dataclass(frozen=True, slots=True)
class Trait:
    """What a user can be: at which events one is (boolean)."""

    spec: TraitSpec
    where: Expression

    @property
    def column(self) -> str:
        """Its column of meetings."""
        return f"trait_{self.spec.name}"

    @property
    def columns(self) -> tuple[str, str]:
        """Its columns of campaigns: the share of members, and of all users on shared keys."""
        return f"campaign_{self.spec.name}_share", f"campaign_{self.spec.name}_usual"


@dataclass(frozen=True, slots=True)
class CompiledSegment:
    """A part of the traffic, or one for each value of ``column`` (None: one part)."""

    name: str
    column: str | None
    where: Expression


@dataclass(frozen=True, slots=True)
class CompiledShared:
    """Shared keys and segments ready to run.

    ``payload`` are the columns of an event that go with its traces. ``rules`` are those of shared
    keys by key space, ``segment_rules`` those of segments, ``campaign_rules`` those of campaigns;
    the schemas are what each can read. ``traits`` are what a user can be.
    """

    keys: tuple[SharedKey, ...]
    segments: tuple[CompiledSegment, ...]
    payload: Mapping[str, pl.DataType]
    features: FeaturePlan
    derived: tuple[tuple[pl.Expr, ...], ...]
    rules: Mapping[str, Rules]
    segment_rules: Rules
    campaign_rules: Rules
    schema: Mapping[str, pl.DataType]
    segment_schema: Mapping[str, pl.DataType]
    campaign_schema: Mapping[str, pl.DataType]
    traits: tuple[Trait, ...]

    @property
    def reads(self) -> frozenset[str]:
        """The columns of a user's events that are needed for traces and segments."""
        read = {column for key in self.keys for column in key.where.columns}
        read |= {key.spec.column for key in self.keys}
        read |= {column for part in self.segments for column in part.where.columns}
        read |= {part.column for part in self.segments if part.column}
        return frozenset(read | set(self.payload))

    @property
    def all_rules(self) -> tuple[Rule, ...]:
        """The rules of shared keys and segments."""
        of_keys = (rule for rules in self.rules.values() for rule in rules.rules)
        return (*of_keys, *self.segment_rules.rules)


def compile_shared(
    pack: Pack,
    spec: SharedSpec,
    schema: Mapping[str, pl.DataType],
    derive: Callable[
        [Sequence[DerivedSpec], dict[str, pl.DataType]],
        tuple[tuple[pl.Expr, ...], ...],
    ],
) -> CompiledShared:
    """Compile what a pack says of shared keys over the columns of a user's events.

    ``derive`` makes levels of derived columns, adding them to the schema.

    Raises:
        PackError: what is wrong and where.
    """
    keys = tuple(_key(key, schema) for key in spec.keys)
    _require_different([key.spec.name for key in keys], "shared key")
    if len(keys) > _MOST_KEYS:
        raise PackError(f"{len(keys)} shared keys, at most {_MOST_KEYS}", where="shared keys")
    segments = tuple(_segment(part.name, part.column, part.where, schema) for part in spec.segments)
    _require_different([part.name for part in segments], "segment")
    features = plan_features(spec.features, spec.windows, schema)
    columns = {**schema, **dict.fromkeys(features.columns, pl.Float64())}
    for name in SWARM_COLUMNS:
        if name in columns:
            raise PackError(f"column {name!r} is that of swarms", where=f"shared column {name}")
    columns |= dict.fromkeys(SWARM_COLUMNS, pl.Float64())
    derived = derive(spec.derived, columns)
    rules = {key.spec.name: compile_rules(_of_space(pack, key.spec.name), columns) for key in keys}
    traits = tuple(_trait(trait, schema) for trait in spec.traits)
    _require_different([trait.spec.name for trait in traits], "trait")
    segment_schema: dict[str, pl.DataType] = {
        "event_id": pl.String(),
        "segment": pl.String(),
        **dict.fromkeys(SEGMENT_COLUMNS, pl.Float64()),
    }
    campaign_schema: dict[str, pl.DataType] = {
        "event_id": pl.String(),
        "campaign": pl.String(),
        **dict.fromkeys(CAMPAIGN_COLUMNS, pl.Float64()),
        **{column: pl.Float64() for trait in traits for column in trait.columns},
    }
    made = CompiledShared(
        keys=keys,
        segments=segments,
        payload={},
        features=features,
        derived=derived,
        rules=rules,
        segment_rules=compile_rules(_of_space(pack, SEGMENT_SPACE), segment_schema),
        campaign_rules=compile_rules(_of_space(pack, CAMPAIGN_SPACE), campaign_schema),
        schema=columns,
        segment_schema=segment_schema,
        campaign_schema=campaign_schema,
        traits=traits,
    )
    return _with_payload(made, spec, schema)


def _with_payload(
    made: CompiledShared, spec: SharedSpec, schema: Mapping[str, pl.DataType]
) -> CompiledShared:
    read = set(_TRACE_COLUMNS) | set(CORE_COLUMNS) | made.features.reads
    for rules in made.rules.values():
        read |= {column for rule in rules.rules for column in rule.when.columns}
    read |= {c for d in spec.derived for c in parse(d.sql, made.schema, "any").columns}
    read |= {column for trait in made.traits for column in trait.where.columns}
    payload = {name: dtype for name, dtype in schema.items() if name in read}
    return replace(made, payload=payload)


def _of_space(pack: Pack, space: str) -> list[RuleSpec]:
    return [rule for rule in pack.rules if rule.key == space]


def _key(spec: SharedKeySpec, schema: Mapping[str, pl.DataType]) -> SharedKey:
    where = f"shared key {spec.name}"
    if spec.name in RESERVED_SPACES:
        raise PackError(f"{spec.name!r} is taken", where=where, hint="choose another name")
    _require_text(spec.column, schema, where)
    return SharedKey(spec, _parse(spec.where, schema, where))


def _trait(spec: TraitSpec, schema: Mapping[str, pl.DataType]) -> Trait:
    where = f"trait {spec.name}"
    trait = Trait(spec, _parse(spec.where, schema, where))
    for column in trait.columns:
        if column in CAMPAIGN_COLUMNS:
            raise PackError(f"column {column!r} is that of campaigns", where=where)
    return trait


def _segment(
    name: str, column: str, sql: str, schema: Mapping[str, pl.DataType]
) -> CompiledSegment:
    where = f"segment {name}"
    if column:
        _require_text(column, schema, where)
    return CompiledSegment(name, column or None, _parse(sql, schema, where))


def _require_text(column: str, schema: Mapping[str, pl.DataType], where: str) -> None:
    if schema.get(column) != pl.String:
        texts = [name for name, dtype in schema.items() if dtype == pl.String]
        raise PackError(
            f"{column!r} is no text column", where=where, hint=near_match(column, texts)
        )


def _parse(sql: str, schema: Mapping[str, pl.DataType], where: str) -> Expression:
    try:
        return parse(sql, schema, "boolean")
    except ExpressionError as error:
        raise PackError(str(error), where=where) from error


def _require_different(names: Sequence[str], kind: str) -> None:
    for name in names:
        if names.count(name) > 1:
            raise PackError(f"{name!r} is there twice", where=f"{kind} {name}")
