"""For every kind of stage, how to make one and what to feed it with."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import polars as pl

import detectors
from detectors.anomaly import FixedModels, ModelPair
from detectors.batch import EventBatch
from detectors.campaigns import CampaignSettings
from detectors.compiled import compile_pack
from detectors.group_stage import GroupStage
from detectors.pack import RuleSpec
from detectors.pressure import AlertBound, AlertBudget
from detectors.shared_stage import SharedStage
from detectors.stages import Stage, UserStage
from tests.support.events import START_MS, random_events
from tests.support.models import split_model
from tests.support.shared import shared_pack, traces_of, wave_events

__all__ = ["WORKLOADS", "Workload", "stage_classes"]


@dataclass(frozen=True, slots=True)
class Workload:
    """How to make an empty stage of class ``made``, and its batches for a seed.

    The batches exercise all that the stage keeps: after them it differs from an empty one in every
    attribute but ``constants``.
    """

    made: type[Stage]
    make_as: Callable[[Any], Stage]
    batches: Callable[[int], list[Any]]
    constants: frozenset[str]

    def make(self) -> Stage:
        """An empty stage."""
        return self.make_as(self.made)


def stage_classes() -> list[type]:
    """Every class of ``detectors`` that processes batches and lets event time advance."""
    names = (found.name for found in pkgutil.iter_modules(detectors.__path__, "detectors."))
    modules = [importlib.import_module(name) for name in names]
    return [
        thing
        for module in modules
        for thing in vars(module).values()
        if isinstance(thing, type)
        and thing.__module__ == module.__name__
        and not getattr(thing, "_is_protocol", False)
        and callable(getattr(thing, "process", None))
        and callable(getattr(thing, "advance", None))
    ]


_ODD: Final = RuleSpec(
    "odd",
    "Unlike the others",
    "anomaly_rank >= anomaly_alert_rank",
    "low",
    30_000,
    "docs/runbooks/odd.md",
)
_SMALL: Final = shared_pack()
_PACK: Final = compile_pack(replace(_SMALL, rules=(*_SMALL.rules, _ODD)))
_MODELS: Final = ModelPair(split_model("generations_1m", 6.0))


def _user_stage(made: type[UserStage]) -> UserStage:
    """Small bounds, so that keys and incidents are evicted and alerts are shed; small blocks."""
    stage = made(_PACK, max_users=40, block_rows=8, models=FixedModels(_MODELS))
    stage.use_models(_MODELS.name)
    stage.anomalies._drift.least_rows, stage.anomalies._drift.filling_hours = 5, 0
    stage.incidents.capacity = 25
    stage.incidents._places.block_size = 2
    rule_ids = [rule.spec.id for rule in _PACK.rules.rules]
    stage.alerting.budget = AlertBudget.of(rule_ids, AlertBound(per_minute=1, burst=20))
    return stage


def _user_batches(seed: int) -> list[EventBatch]:
    """Calm, a storm of alerts, a flood of users, calm; in between, time for incidents to close."""
    parts = (
        random_events(seed, 1_000, 30, spacing_ms=2_000),
        random_events(seed + 1, 2_500, 12, spacing_ms=10),
        random_events(seed + 2, 1_000, 80, spacing_ms=10),
        random_events(seed + 3, 1_500, 35, spacing_ms=4_000),
    )
    batches: list[EventBatch] = []
    newest_ms = 0
    for part in parts:
        ahead_ms = newest_ms + 2_400_000 - START_MS if newest_ms else 0
        batch = EventBatch.of(part.with_columns(pl.col("time_ms") + ahead_ms))
        newest_ms = int(batch.times_ms.max())
        batches += batch.split(range(500, len(batch), 500))
    return batches


def _shared_stage(made: type[SharedStage]) -> SharedStage:
    """Few keys, small blocks, few incidents."""
    stage = made(_PACK, max_keys=60, block_rows=8)
    stage.alerting.incidents.capacity = 6
    stage.alerting.incidents._places.block_size = 2
    assert _PACK.shared is not None
    rule_ids = [rule.spec.id for rule in _PACK.shared.all_rules]
    stage.alerting.budget = AlertBudget.of(rule_ids, AlertBound(per_minute=1, burst=20))
    return stage


def _shared_batches(seed: int) -> list[pl.DataFrame]:
    """The traces of these events, cut otherwise; their minutes close as well."""
    traces = traces_of(_PACK, _user_batches(seed))
    return [traces[start : start + 1_300] for start in range(0, len(traces), 1_300)]


def _group_stage(made: type[GroupStage]) -> GroupStage:
    """Few actors and pairs, small blocks, few incidents; campaigns end soon."""
    stage = made(_PACK, max_actors=120, block_rows=8)
    stage.campaigns.settings = CampaignSettings(silence_ms=600_000, update_ms=10_000)
    stage.alerting.incidents.capacity = 25
    stage.alerting.incidents._places.block_size = 2
    assert _PACK.shared is not None
    rule_ids = [rule.spec.id for rule in _PACK.shared.campaign_rules.rules]
    stage.alerting.budget = AlertBudget.of(rule_ids, AlertBound(per_minute=1, burst=2))
    return stage


def _group_batches(seed: int) -> list[pl.DataFrame]:
    """Meetings in traffic with a crew that shares one new video after another."""
    shared = SharedStage(_PACK, max_keys=1_000)
    met = shared.process(traces_of(_PACK, [EventBatch.of(wave_events(seed))])).meetings
    assert met is not None
    return [met[start : start + 600] for start in range(0, len(met), 600)]


_ALERTING: Final = frozenset(
    {
        ".alerting.incidents.capacity",
        ".alerting.incidents.rule_capacity",
        ".alerting.incidents._places.block_size",
        ".alerting._pack_version",
        ".alerting._alert_storm",
        ".alerting.budget.bound",
    }
)
_GROUP_TABLES: Final = ("actors", "ties", "names", "key_names")
_KEYS: Final = frozenset({"capacity", "protected_capacity", "block_rows", "_block_shift"})

WORKLOADS: Final[Mapping[type, Workload]] = {
    UserStage: Workload(
        made=UserStage,
        make_as=_user_stage,
        batches=_user_batches,
        constants=_ALERTING
        | {f".keys.{name}" for name in _KEYS}
        | frozenset(
            {
                ".pack",
                ".features.plan",
                ".features._inputs",
                ".limiter.plan",
                ".limiter._inputs",
                ".evictions.capacity",
                ".anomalies._schema",
                ".anomalies._plan",
                ".anomalies._wanted",
                ".anomalies.models",
                ".anomalies.observe",
                ".anomalies._drift.bins",
                ".anomalies._drift.least_rows",
                ".anomalies._drift.filling_hours",
                ".tracer._keys",
                ".tracer._masks",
                ".tracer._payload",
                ".tracer.spaces",
                ".tracer.segments._columns",
                ".tracer.segments._segments",
                ".tracer.segments._settings",
                "._models",
                "._state.kind",
                "._state._others",
                "._state._rows.name",
                "._state._rows._definitions",
            }
        ),
    ),
    SharedStage: Workload(
        made=SharedStage,
        make_as=_shared_stage,
        batches=_shared_batches,
        constants=_ALERTING
        | {f".keys.{name}" for name in _KEYS}
        | {f".segments._names.keys.{name}" for name in _KEYS}
        | {f".names.keys.{name}" for name in _KEYS}
        | frozenset(
            {
                ".shared",
                ".rings.settings",
                ".swarms.settings",
                ".swarms._plans",
                "._salts",
                "._known_rules",
                ".segments._settings",
                ".segments._rows._empty",
                ".segments._rows._settings",
                ".segments._rows.baselines._plan",
                ".segments._rows.baselines.settings",
                ".features.plan",
                ".features._inputs",
                "._state.kind",
                "._state._rows.name",
                "._state._rows._definitions",
            }
        ),
    ),
    GroupStage: Workload(
        made=GroupStage,
        make_as=_group_stage,
        batches=_group_batches,
        constants=_ALERTING
        | {f".{table}.keys.{name}" for table in _GROUP_TABLES for name in _KEYS}
        | frozenset(
            {
                ".shared",
                "._known_rules",
                ".actors.settings",
                ".ties.settings",
                ".campaigns.settings",
                ".audiences.name",
                ".alerting.incidents.evicted",  # few campaigns are open at once
                ".campaigns.dropped",
                "._state.kind",
                "._state._rows.name",
                "._state._rows._definitions",
            }
        ),
    ),
}
