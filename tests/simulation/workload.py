"""What is in the input topics, and when each record gets there."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final

import polars as pl
from faust.types import TP

from detectors.anomaly import ModelPair
from detectors.compiled import CompiledPack, compile_pack
from detectors.pack import (
    Action,
    FeatureSpec,
    LimitSpec,
    LimitsSpec,
    Pack,
    RuleSpec,
    SegmentSpec,
    SharedKeySpec,
    SharedSpec,
    WindowSpec,
)
from monitor.kafka.topics import TopicNames
from monitor.simulator.wire_json import to_wire_json
from tests.simulation.broker import Record
from tests.support.events import START_MS, random_events
from tests.support.malformed import KINDS
from tests.support.models import split_model

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from detectors.anomaly import AnomalyModel

__all__ = ["BLOCK_ROWS", "MAX_KEYS", "MAX_USERS", "MODELS", "Arrival", "arrivals", "simulated_pack"]

MAX_USERS: Final = 12
MAX_KEYS: Final = 48
"""More than there are users at most: who founded a key is told by a name that is not evicted."""
BLOCK_ROWS: Final = 4
_LOG_AHEAD_MS: Final = 86_400_000
_SMALL_BYTES: Final = 2_000
_REQUESTED: Final = "type = 'generation.requested'"


def _model(name: str, above: float) -> AnomalyModel:
    return split_model("generations_1m", above, name=name * 16, every_ms=1_000)


_SHARED: Final = SharedSpec(
    keys=(
        SharedKeySpec("asset", "asset_id", "type = 'share.created'"),
        SharedKeySpec("network", "ip", form="network"),
        SharedKeySpec("device", "device_id"),
    ),
    windows=(WindowSpec("1m", 60_000, 3),),
    features=(
        FeatureSpec("actors", "distinct", ("1m",), of="user_id", capacity=4),
        FeatureSpec("actions", "count", ("1m",)),
    ),
    derived=(),
    segments=(SegmentSpec("all"), SegmentSpec("tier", "tier", _REQUESTED)),
)
_SHARED_RULES: Final = tuple(
    RuleSpec(
        f"crowd-{key}",
        f"Many on one {key}",
        "actors_1m >= 2",
        "low",
        5_000,
        "docs/runbooks/crowd.md",
        key=key,
    )
    for key in ("asset", "network", "device")
)
MODELS: Final = tuple(
    ModelPair(champion, challenger)
    for champion, challenger in (
        (None, None),
        (_model("a", 1.0), None),
        (_model("b", 2.0), _model("a", 1.0)),
        (_model("c", 3.0), None),
    )
)
"""What a registry may name at one time or another."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A record that reaches its log ``at`` this share (0 to 1) of the run; ``end`` is then its."""

    at: float
    tp: TP
    record: Record
    end: int


@cache
def simulated_pack(*, shared: bool) -> CompiledPack:
    """Small, so that a crash costs little, and yet every kind of state and of output.

    With shared keys or without; what asks for an anomaly model is silent where there is none.
    """
    return compile_pack(
        Pack(
            name="simulated",
            windows=(WindowSpec("1m", 60_000, 3),),
            features=(
                FeatureSpec("generations", "count", ("1m",), _REQUESTED),
                FeatureSpec("throttles", "count", ("1m",), "limited"),
                FeatureSpec("prompts", "distinct", ("1m",), _REQUESTED, "prompt_fingerprint", 4),
                FeatureSpec("events", "count", ("1m",)),
                FeatureSpec("rhythm", "gap", ("1m",)),
            ),
            derived=(),
            rules=(
                RuleSpec(
                    "burst",
                    "Burst of generations",
                    "generations_1m >= 4",
                    "medium",
                    20_000,
                    "docs/runbooks/burst.md",
                    action=Action("throttle", "generation", 60_000),
                ),
                RuleSpec(
                    "steady",
                    "Many prompts at a steady rhythm",
                    # Of all topics: what is merged in another order gives other evidence.
                    "events_1m >= 3 and prompts_1m >= 1 and rhythm_mean_s_1m < 20",
                    "low",
                    2_000,
                    "docs/runbooks/steady.md",
                ),
                RuleSpec(
                    "odd",
                    "Unlike the others",
                    "anomaly_rank >= anomaly_alert_rank",
                    "low",
                    2_000,
                    "docs/runbooks/odd.md",
                ),
                *(_SHARED_RULES if shared else ()),
            ),
            shared=_SHARED if shared else None,
            limits=LimitsSpec(
                actions={"generation": _REQUESTED},
                limits=(LimitSpec("per_minute", "generation", 60_000, {"free": 3}),),
                default_tier="free",
                tiers=("free",),
                decision_ms=10_000,
            ),
        )
    )


def arrivals(
    rng: random.Random,
    starts: Mapping[TP, int],
    *,
    events: int,
    malformed_share: float,
    lag: float,
) -> list[Arrival]:
    """``events`` events in order of arrival at the logs, whose first offsets are ``starts``.

    Their times are in order of arrival but for late ones, and but for the topics: each may lag
    behind by up to ``lag`` of the run, in stretches. Malformed records lie between them.
    """
    spacing_ms = rng.choice((200, 1_500, 6_000))
    users = rng.choice((6, 16, 40))
    frame = random_events(rng.randrange(1 << 30), events, users, spacing_ms=spacing_ms)
    names = TopicNames()
    topics = {"g": names.generation_events, "s": names.sharing_events}
    stretches = {topic: _Stretches(rng, lag) for topic in names.inputs}
    latest = dict.fromkeys(names.inputs, 0.0)
    partitions = len(starts) // len(names.inputs)
    found: list[tuple[float, TP, bytes, bytes | None]] = []
    values = to_wire_json(frame).to_list()
    for index, (kind, key, value) in enumerate(
        zip(frame["type"].to_list(), _keys(frame), values, strict=True)
    ):
        topic = topics.get(kind[0], names.feedback_events)
        tp = TP(topic, sum(key.encode()) % partitions)
        at = min(1.0, index / events + stretches[topic].lag(index / events))
        latest[topic] = at = max(at, latest[topic])
        if rng.random() < malformed_share:
            found.append((at, tp, b"malformed", rng.choice(_malformed())))
        found.append((at, tp, key.encode(), value.encode()))
    return _with_offsets(rng, sorted(found, key=lambda record: record[0]), starts)


def _with_offsets(
    rng: random.Random,
    found: Sequence[tuple[float, TP, bytes, bytes | None]],
    starts: Mapping[TP, int],
) -> list[Arrival]:
    """Now and then there is a gap after a record, as markers of transactions leave it."""
    ends = dict(starts)
    arrived: list[Arrival] = []
    for at, tp, key, value in found:
        timestamp_ms = START_MS + _LOG_AHEAD_MS + int(at * 1_000_000)
        record = Record(ends[tp], timestamp_ms, key, value)
        ends[tp] += 1 + rng.choice((0, 0, 0, 0, 0, 1, 3))
        arrived.append(Arrival(at, tp, record, ends[tp]))
    return arrived


@cache
def _malformed() -> tuple[bytes | None, ...]:
    return tuple(value for _, value in KINDS.values() if len(value or b"") < _SMALL_BYTES)


def _keys(frame: pl.DataFrame) -> list[str]:
    """Feedback is keyed by whom it is about, all else by who acts."""
    about = pl.col("subject_user_id").fill_null(pl.col("user_id"))
    return frame.select(about.alias("key"))["key"].to_list()


class _Stretches:
    """A lag that changes now and then."""

    def __init__(self, rng: random.Random, most: float) -> None:
        self._rng = rng
        self._most = most
        self._until = 0.0
        self._lag = 0.0

    def lag(self, at: float) -> float:
        if at >= self._until:
            self._until = at + self._rng.random() * 0.2
            self._lag = self._rng.choice((0.0, self._rng.random())) * self._most
        return self._lag
