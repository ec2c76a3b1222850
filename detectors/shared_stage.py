"""The stage of shared keys: what many users do to the same asset, link or network, and who met."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from detectors.alerting import Alerting, Finding, Moment, Sheet
from detectors.expressions import extend
from detectors.features import Features
from detectors.keys import KeyTable, hash_string, hash_strings
from detectors.meetings import meetings
from detectors.names import NameTable
from detectors.rings import Rings
from detectors.segments import ClosedMinutes, SegmentVolumes
from detectors.stages import StageOutputs
from detectors.state.blocks import DEFAULT_BLOCK_ROWS, entry
from detectors.state.rows import RowState
from detectors.state.stage import StageState
from detectors.swarms import Swarms, SwarmSettings
from detectors.traces import SEGMENTS
from detectors.volume import VolumeSettings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from detectors.compiled import CompiledPack
    from detectors.incidents import IncidentTracker
    from detectors.shared import CompiledShared
    from detectors.state.blocks import Layout, Restored, Snapshot, StateBlock
    from detectors.state.fields import RowPart

__all__ = ["SharedStage"]

Int64s = npt.NDArray[np.int64]

_NEVER_MS: Final = -(2**62)
_PARTS: Final = 8
"""What is usual among keys is learned in so many parts of each key space, by the key's hash: so it
is the same for 1, 2, 4 or 8 partitions."""


class SharedStage:
    """Features, swarms, rules and incidents of the shared keys of one partition; its segments."""

    def __init__(
        self, pack: CompiledPack, max_keys: int, block_rows: int = DEFAULT_BLOCK_ROWS
    ) -> None:
        assert pack.shared is not None, "a pack without shared keys has no such stage"
        self.shared: CompiledShared = pack.shared
        spaces = len(self.shared.keys)
        self._salts = _salts(key.spec.name for key in self.shared.keys)
        self.keys = KeyTable(max_keys, block_rows)
        self.features = Features(self.shared.features, max_keys)
        self.rings = Rings(max_keys)
        self.swarms = Swarms(max_keys, _PARTS * spaces, SwarmSettings(parts=_PARTS))
        self.names = NameTable(max_keys, block_rows)
        self.segments = SegmentVolumes(VolumeSettings())
        self.met = 0
        rules = self.shared.all_rules
        self._known_rules = (*rules, pack.alert_storm)
        self.alerting = Alerting(pack.version, rules, pack.alert_storm, len(self._known_rules))
        self.watermark_ms = _NEVER_MS
        parts: dict[str, RowPart] = {
            "features": self.features,
            "rings": self.rings,
            "swarms": self.swarms,
        }
        outer = pack.pack.derived
        inner = () if pack.pack.shared is None else pack.pack.shared.derived
        rows = RowState(self.keys, parts, {spec.name: spec.sql for spec in (*outer, *inner)})
        self._state = StageState(
            "shared",
            rows,
            self.alerting.incidents,
            others=[
                self.segments.table,
                RowState(self.names.keys, {"names": self.names}, name="actors"),
            ],
        )

    @property
    def incidents(self) -> IncidentTracker:
        """The open incidents."""
        return self.alerting.incidents

    def snapshot(self, *, full: bool = False) -> Snapshot:
        """See ``Stateful``."""
        rest = {
            "watermark_ms": self.watermark_ms,
            "alert_budget": self.alerting.budget.state(),
            "segments": self.segments.state(),
            "met": self.met,
            "swarms": {name: array.tolist() for name, array in self.swarms.group_arrays.items()},
        }
        return self._state.snapshot(rest, full=full)

    def restore(self, layout: Layout, blocks: Iterable[StateBlock]) -> Restored:
        """See ``Stateful``."""
        restored, rest = self._state.restore(layout, blocks, self._known_rules)
        self.watermark_ms = entry(rest, "watermark_ms", "stage")
        self.alerting.budget.restore(entry(rest, "alert_budget", "stage"))
        self.segments.restore(entry(rest, "segments", "stage"))
        self.met = entry(rest, "met", "stage")
        self._restore_swarms(entry(rest, "swarms", "stage"))
        return restored

    def _restore_swarms(self, saved: Mapping[str, list[Any]]) -> None:
        """What is usual in each key space, if the pack has as many as it had."""
        for name, array in self.swarms.group_arrays.items():
            if name in saved and len(saved[name]) == len(array):
                array[:] = saved[name]

    def process(self, traces: pl.DataFrame) -> StageOutputs:
        """Apply n traces in order (see ``detectors.traces`` for their columns)."""
        result = StageOutputs()
        if not len(traces):
            return result
        order_ms = traces["order_ms"].to_numpy()
        watermarks = np.maximum.accumulate(np.maximum(order_ms, self.watermark_ms))
        spaces = traces["space"].to_numpy()
        counted = np.flatnonzero(spaces == SEGMENTS)
        minutes = self.segments.apply(watermarks, counted, traces[counted])
        touching = np.flatnonzero(spaces != SEGMENTS)
        moments: dict[int, Moment] = {}
        if len(touching):
            frame = traces[touching] if len(counted) else traces
            self._trace_moments(frame, touching, watermarks, moments, result)
        self._segment_moments(minutes, watermarks, moments, result)
        in_order = (moments[position] for position in sorted(moments))
        result.outputs.extend(self.alerting.outputs(in_order, result.findings, result.shed))
        self.watermark_ms = int(watermarks[-1])
        result.outputs.extend(self.alerting.close_due(self.watermark_ms))
        return result

    def advance(self, watermark_ms: int) -> StageOutputs:
        """Let event time pass: closes the incidents whose time has come."""
        self.watermark_ms = max(self.watermark_ms, watermark_ms)
        return StageOutputs(outputs=list(self.alerting.close_due(self.watermark_ms)))

    def _trace_moments(
        self,
        frame: pl.DataFrame,
        positions: Int64s,
        watermarks: Int64s,
        moments: dict[int, Moment],
        result: StageOutputs,
    ) -> None:
        """Apply traces (m of them, at ``positions`` of the batch); note what rules found."""
        spaces = frame["space"].to_numpy()
        times_ms = frame["time_ms"].to_numpy()
        hashes = hash_strings(frame["key"]) ^ self._salts[spaces]
        rows, fresh = self.keys.rows(hashes)
        actors = hash_strings(frame["user_id"])
        ring = self.rings.apply(times_ms, rows, fresh, actors)
        groups = (spaces.astype(np.int32) - 1) * _PARTS + (hashes % _PARTS).astype(np.int32)
        swarm = self.swarms.apply(times_ms, rows, fresh, groups, ring)
        result.truncated += ring.truncated
        result.meetings = meetings(
            frame,
            watermarks[positions],
            hashes,
            actors,
            ring,
            swarm,
            self._named(actors, frame["user_id"], ring.founders),
            self.shared.traits,
            self.met,
        )
        self.met += len(result.meetings)
        features = self.features.apply(frame, times_ms, rows, fresh)
        columns = {
            "swarm_actors": swarm.actors,
            "swarm_expected": swarm.expected,
            "swarm_score": swarm.score,
        }
        frame = frame.hstack(features.frame).hstack(pl.DataFrame(columns))
        for level in self.shared.derived:
            frame = extend(frame, level)
        eligible = ~features.late
        result.late_traces += int(features.late.sum())
        result.skipped += features.skipped
        for index, key in enumerate(self.shared.keys):
            of_space = np.flatnonzero(spaces == index + 1)
            result.touched[key.spec.name] += int(eligible[of_space].sum())
            rules = self.shared.rules[key.spec.name]
            if not len(rules) or not len(of_space):
                continue
            sheet = Sheet(frame[of_space])
            held = rules.held(sheet.frame, eligible[of_space])
            result.rule_errors |= held.errors
            for row, rule in zip(held.positions.tolist(), held.rules.tolist(), strict=True):
                at = int(of_space[row])
                position = int(positions[at])
                moment = moments.get(position)
                if moment is None:
                    moment = Moment(int(times_ms[at]), int(watermarks[position]), sheet, row)
                    moments[position] = moment
                name = sheet.frame.item(row, "key")
                moment.findings.append(Finding(rules.rules[rule], name, sheet, row))

    def _named(
        self,
        actors: npt.NDArray[np.uint64],
        user_ids: pl.Series,
        founders: npt.NDArray[np.uint64],
    ) -> pl.Series:
        """Note n actors in order; the names of founders (0: none) as they are known at each."""
        at = np.flatnonzero(founders)
        ids: list[str | None] = [None] * len(actors)
        # Where names have to go, a founder's may: then it matters when one asks.
        ends = (at + 1).tolist() if self.names.room < len(actors) else []
        start = 0
        for end in [*ends, len(actors)]:
            self.names.note(actors[start:end], user_ids[start:end])
            if ends and start < end <= ends[-1]:
                (ids[end - 1],) = self.names.names(founders[end - 1 : end])
            start = end
        if not ends:
            for position, name in zip(at.tolist(), self.names.names(founders[at]), strict=True):
                ids[position] = name
        return pl.Series("founder_id", ids, dtype=pl.String)

    def _segment_moments(
        self,
        minutes: list[ClosedMinutes],
        watermarks: Int64s,
        moments: dict[int, Moment],
        result: StageOutputs,
    ) -> None:
        """Ask the rules of segments at each minute that was over; these go first at a row."""
        rules = self.shared.segment_rules
        found: dict[int, list[Finding]] = {}
        for minute in minutes:
            frame = minute.frame
            held = rules.held(frame, np.ones(len(frame), dtype=np.bool_))
            result.rule_errors |= held.errors
            sheet = Sheet(frame)
            for row, rule in zip(held.positions.tolist(), held.rules.tolist(), strict=True):
                finding = Finding(rules.rules[rule], frame.item(row, "segment"), sheet, row)
                found.setdefault(minute.position, []).append(finding)
        for position, findings in found.items():
            now_ms = int(watermarks[position])
            moment = moments.setdefault(
                position, Moment(now_ms, now_ms, findings[0].sheet, findings[0].row)
            )
            moment.findings[:0] = findings


def _salts(names: Iterable[str]) -> npt.NDArray[np.uint64]:
    """What tells equal keys of different spaces apart, by the number of the space."""
    return np.array([0, *map(hash_string, names)], dtype=np.uint64)
