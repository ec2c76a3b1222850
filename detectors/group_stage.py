"""The stage of groups: who acts together on different keys, over all partitions.

One partition holds all of it: a tie is made of meetings on keys that lie anywhere.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl

from detectors.alerting import Alerting, Finding, Moment, Sheet
from detectors.campaigns import Campaigns, CampaignSettings, Sightings, ticks
from detectors.group_alerts import (
    NamesOfGroups,
    TraitShare,
    campaign_frame,
    campaign_group,
)
from detectors.marks import Marks
from detectors.names import NameTable
from detectors.stages import StageOutputs
from detectors.state.blocks import DEFAULT_BLOCK_ROWS, entry
from detectors.state.rows import RowState
from detectors.state.stage import StageState
from detectors.ties import ActorTable, Exposures, Meetings, TieSettings, TieTable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from detectors.campaigns import CampaignChange
    from detectors.compiled import CompiledPack
    from detectors.incidents import IncidentTracker, Output
    from detectors.keys import Hashes, KeyTable
    from detectors.shared import CompiledShared
    from detectors.state.blocks import Layout, Restored, Snapshot, StateBlock

__all__ = ["GroupStage"]

Int64s = npt.NDArray[np.int64]

_Columns = TypeVar("_Columns", Exposures, Meetings)

_NEVER_MS: Final = -(2**62)


class GroupStage:
    """Ties, campaigns, their rules and incidents."""

    def __init__(
        self, pack: CompiledPack, max_actors: int, block_rows: int = DEFAULT_BLOCK_ROWS
    ) -> None:
        assert pack.shared is not None, "a pack without shared keys has no such stage"
        self.shared: CompiledShared = pack.shared
        keys = self.shared.keys
        settings = TieSettings(
            spaces=len(keys),
            lasting=frozenset(at for at, key in enumerate(keys) if key.spec.lasting),
        )
        self.actors = ActorTable(max_actors, settings, block_rows)
        self.ties = TieTable(max_actors, settings, block_rows)
        self.names = NameTable(max_actors, block_rows)
        self.key_names = NameTable(max_actors, block_rows)
        self.traits = [Marks(self.names.keys, trait.column) for trait in pack.shared.traits]
        self.audiences = Marks(self.key_names.keys, "audience")
        self.campaigns = Campaigns(CampaignSettings())
        rules = self.shared.campaign_rules.rules
        self._known_rules = (*rules, pack.alert_storm)
        self.alerting = Alerting(pack.version, rules, pack.alert_storm, len(self._known_rules))
        self.watermark_ms = _NEVER_MS
        tables = [
            RowState(self.actors.keys, {"actors": self.actors}, name="actors"),
            RowState(
                self.names.keys,
                {"names": self.names, **{marks.name: marks for marks in self.traits}},
                name="names",
            ),
            RowState(
                self.key_names.keys,
                {"names": self.key_names, "audiences": self.audiences},
                name="keys",
            ),
        ]
        ties = RowState(self.ties.keys, {"ties": self.ties})
        self._state = StageState("group", ties, self.alerting.incidents, others=tables)

    @property
    def incidents(self) -> IncidentTracker:
        """The open incidents."""
        return self.alerting.incidents

    @property
    def keys(self) -> KeyTable:
        """The pairs that are kept."""
        return self.ties.keys

    def snapshot(self, *, full: bool = False) -> Snapshot:
        """See ``Stateful``."""
        rest = {
            "watermark_ms": self.watermark_ms,
            "alert_budget": self.alerting.budget.state(),
            "actors": self.actors.saved(),
            "ties": self.ties.saved(),
            "campaigns": self.campaigns.state(),
        }
        return self._state.snapshot(rest, full=full)

    def restore(self, layout: Layout, blocks: Iterable[StateBlock]) -> Restored:
        """See ``Stateful``."""
        restored, rest = self._state.restore(layout, blocks, self._known_rules)
        self.watermark_ms = entry(rest, "watermark_ms", "stage")
        self.alerting.budget.restore(entry(rest, "alert_budget", "stage"))
        self.actors.restore(entry(rest, "actors", "stage"))
        self.ties.restore(entry(rest, "ties", "stage"))
        self.campaigns.restore(entry(rest, "campaigns", "stage"))
        return restored

    def process(self, rows: pl.DataFrame) -> StageOutputs:
        """Apply n meetings in order (see ``detectors.meetings`` for their columns)."""
        result = StageOutputs()
        if not len(rows):
            return result
        order_ms = rows["order_ms"].to_numpy()
        batch = _Batch.of(rows)
        start = 0
        for position, tick_ms in ticks(
            order_ms, self.watermark_ms, self.campaigns.settings.tick_ms
        ):
            self._apply(batch, start, position)
            start = position
            result.outputs.extend(self._tick(tick_ms, result))
        self._apply(batch, start, len(rows))
        self.watermark_ms = max(self.watermark_ms, int(order_ms.max()))
        return result

    def advance(self, watermark_ms: int) -> StageOutputs:
        """Let event time pass: closes campaigns and incidents whose time has come."""
        result = StageOutputs()
        if watermark_ms > self.watermark_ms:
            self.watermark_ms = watermark_ms
            tick_ms = self.campaigns.settings.tick_ms
            result.outputs.extend(self._tick(watermark_ms // tick_ms * tick_ms, result))
        return result

    def _apply(self, batch: _Batch, start: int, end: int) -> None:
        """Exposures, meetings and sightings of rows ``start`` to ``end``, between two ticks."""
        if start == end:
            return
        named = slice(batch.named[start], batch.named[end])
        of_actors = self.names.note(batch.name_hashes[named], batch.names[named])
        for marks in self.traits:
            marks.note(*of_actors, batch.traits[marks.name][named])
        of_keys = self.key_names.note(batch.keys[start:end], batch.key_names[start:end])
        self.audiences.note(*of_keys, batch.audiences[start:end])
        exposed = slice(batch.exposed[start], batch.exposed[end])
        self.actors.apply(_part(batch.exposures, exposed))
        met = slice(batch.met[start], batch.met[end])
        self.ties.apply(_part(batch.meetings, met))
        seen = start + np.flatnonzero(batch.swarming[start:end])
        if len(seen):
            self.campaigns.see(batch.sightings(seen))

    def _tick(self, now_ms: int, result: StageOutputs) -> list[Output]:
        """Judge ties, group them, ask the rules; ``now_ms`` is a tick that is over."""
        campaigns = self.campaigns
        if campaigns.quiet and self.ties.unchanged:
            return list(self.alerting.close_due(now_ms))
        since_ms = now_ms - campaigns.settings.silence_ms
        ties = self.ties.significant(self.actors, campaigns.swarm_keys, now_ms, since_ms)
        changes = campaigns.update(now_ms, ties)
        result.campaigns.update(Counter(change.kind for change in changes))
        told = [change for change in changes if change.kind != "closed"]
        moments = [self._moment(told, now_ms)] if told else []
        outputs = list(self.alerting.outputs(moments, result.findings, result.shed))
        return [*outputs, *self.alerting.close_due(now_ms)]

    def _moment(self, changes: list[CampaignChange], now_ms: int) -> Moment:
        shares = self._trait_shares(changes)
        frame = campaign_frame(changes, shares)
        rules = self.shared.campaign_rules
        held = rules.held(frame, np.ones(len(frame), dtype=np.bool_))
        spaces = [key.spec.name for key in self.shared.keys]
        sheet = Sheet(
            frame,
            group=lambda row: campaign_group(
                changes[row],
                shares[row],
                spaces,
                NamesOfGroups(self.names, self.key_names, self.audiences),
            ),
        )
        findings = [
            Finding(rules.rules[rule], changes[row].campaign_id, sheet, row)
            for row, rule in zip(held.positions.tolist(), held.rules.tolist(), strict=True)
        ]
        return Moment(now_ms, now_ms, sheet, 0, findings=findings)

    def _trait_shares(self, changes: Sequence[CampaignChange]) -> list[list[TraitShare]]:
        """For each campaign, the share of its members (that are told) who have each trait."""
        usual = [marks.mean for marks in self.traits]
        shares: list[list[TraitShare]] = []
        for change in changes:
            actors = np.array([member.actor for member in change.members], dtype=np.uint64)
            shares.append(
                [
                    TraitShare(trait, marks.mean_of(actors), of_all)
                    for trait, marks, of_all in zip(
                        self.shared.traits, self.traits, usual, strict=True
                    )
                ]
            )
        return shares


@dataclass(frozen=True, slots=True)
class _Batch:
    """n meetings, taken apart once, to be applied tick by tick.

    ``exposures`` of row i begin at ``exposed[i]`` (n + 1,), ``names`` and their hashes at
    ``named[i]``, ``meetings`` at ``met[i]``.
    """

    rows: pl.DataFrame
    keys: Hashes
    key_names: pl.Series
    audiences: npt.NDArray[np.float64]
    swarming: npt.NDArray[np.bool_]
    exposures: Exposures
    exposed: Int64s
    name_hashes: Hashes
    names: pl.Series
    traits: Mapping[str, npt.NDArray[np.float64]]
    named: Int64s
    meetings: Meetings
    met: Int64s

    @classmethod
    def of(cls, rows: pl.DataFrame) -> _Batch:
        """The rows as arrays. The founder of a key is exposed right before the second actor."""
        n = len(rows)
        founders, actors = rows["founder"].to_numpy(), rows["actor"].to_numpy()
        keys, times_ms = rows["key_hash"].to_numpy(), rows["time_ms"].to_numpy()
        spaces = rows["space"].to_numpy() - np.uint8(1)
        exposures_of = 1 + (founders != 0)
        source = np.repeat(np.arange(n), exposures_of)
        founding = np.append(source[1:] == source[:-1], [False])[: len(source)]
        exposed_actors = np.where(founding, founders[source], actors[source])
        known = ~founding | rows["founder_id"].is_not_null().to_numpy()[source]
        strings = pl.concat([rows["founder_id"], rows["user_id"]])
        names = strings[np.where(founding, source, source + n)[known]]
        contacts = rows["partners"].list.len().to_numpy().astype(np.int64)
        partners = rows["partners"].explode(empty_as_null=False).to_numpy().astype(np.uint64)
        partner_ms = rows["partner_ms"].explode(empty_as_null=False).to_numpy().astype(np.int64)
        of = np.repeat(np.arange(n), contacts)
        scores = rows["swarm_score"].to_numpy()
        traits = {
            name: rows[name].cast(pl.Float64).fill_null(np.nan).to_numpy()
            for name in rows.columns
            if name.startswith("trait_")
        }
        return cls(
            rows=rows,
            keys=keys,
            key_names=rows["key"],
            audiences=rows["audience"].to_numpy().astype(np.float64),
            swarming=rows["swarming"].to_numpy(),
            exposures=Exposures(
                times_ms[source],
                exposed_actors,
                keys[source],
                spaces[source],
                np.where(founding, 0.0, rows["chance"].to_numpy()[source]),
                np.where(founding, 1.0, rows["crowd"].to_numpy()[source]),
            ),
            exposed=_starts(exposures_of),
            name_hashes=exposed_actors[known],
            names=names,
            traits={
                name: np.where(founding, np.nan, values[source])[known]
                for name, values in traits.items()
            },
            named=_starts(np.bincount(source[known], minlength=n)),
            meetings=Meetings(
                times_ms[of], actors[of], partners, partner_ms, keys[of], spaces[of], scores[of]
            ),
            met=_starts(contacts),
        )

    def sightings(self, at: Int64s) -> Sightings:
        """The rows ``at``, which are in swarms."""
        rows = self.rows[["swarm_score", "swarm_actors", "swarm_expected", "event_id"]][at]
        counts = self.met[at + 1] - self.met[at]
        of = np.repeat(np.arange(len(at), dtype=np.int32), counts)
        contacts = np.repeat(self.met[at] - _starts(counts)[:-1], counts) + np.arange(len(of))
        exposure = self.exposed[at + 1] - 1
        return Sightings(
            times_ms=self.exposures.times_ms[exposure],
            keys=self.keys[at],
            spaces=self.exposures.spaces[exposure],
            actors=self.exposures.actors[exposure],
            scores=rows["swarm_score"].to_numpy(),
            crowds=rows["swarm_actors"].to_numpy(),
            expected=rows["swarm_expected"].to_numpy(),
            events=rows["event_id"].to_list(),
            partner_of=of,
            partners=self.meetings.partners[contacts],
            partner_ms=self.meetings.partner_ms[contacts],
        )


def _starts(counts: Int64s) -> Int64s:
    """Where each of n parts begins, and the end; (n + 1,)."""
    return np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(counts)))


def _part(columns: _Columns, part: slice) -> _Columns:
    """Some rows of arrays that belong together."""
    return type(columns)(*(getattr(columns, field.name)[part] for field in fields(columns)))
