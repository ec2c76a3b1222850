"""The stage of groups: who acts together on different keys, over all partitions.

One partition holds all of it: a tie is made of meetings on keys that lie anywhere.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from detectors.alerting import Alerting, Finding, Moment, Sheet
from detectors.campaigns import Campaigns, CampaignSettings, Sightings, ticks
from detectors.group_alerts import campaign_frame, campaign_group
from detectors.names import NameTable
from detectors.stages import StageOutputs
from detectors.state.blocks import DEFAULT_BLOCK_ROWS, entry
from detectors.state.rows import RowState
from detectors.state.stage import StageState
from detectors.ties import ActorTable, Exposures, Meetings, TieSettings, TieTable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from detectors.campaigns import CampaignChange
    from detectors.compiled import CompiledPack
    from detectors.incidents import IncidentTracker, Output
    from detectors.keys import KeyTable
    from detectors.shared import CompiledShared
    from detectors.state.blocks import Layout, Restored, Snapshot, StateBlock

__all__ = ["GroupStage"]

Int64s = npt.NDArray[np.int64]

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
        self.campaigns = Campaigns(CampaignSettings())
        rules = self.shared.campaign_rules.rules
        self._known_rules = (*rules, pack.alert_storm)
        self.alerting = Alerting(pack.version, rules, pack.alert_storm, len(self._known_rules))
        self.watermark_ms = _NEVER_MS
        tables = [
            RowState(self.actors.keys, {"actors": self.actors}, name="actors"),
            RowState(self.names.keys, {"names": self.names}, name="names"),
            RowState(self.key_names.keys, {"names": self.key_names}, name="keys"),
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
        start = 0
        for position, tick_ms in ticks(
            order_ms, self.watermark_ms, self.campaigns.settings.tick_ms
        ):
            self._apply(rows[start:position])
            start = position
            result.outputs.extend(self._tick(tick_ms, result))
        self._apply(rows[start:])
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

    def _apply(self, rows: pl.DataFrame) -> None:
        """Exposures, meetings and sightings of rows between two ticks."""
        if not len(rows):
            return
        actors, keys = rows["actor"].to_numpy(), rows["key_hash"].to_numpy()
        times_ms = rows["time_ms"].to_numpy()
        spaces = rows["space"].to_numpy() - np.uint8(1)
        counts = rows["partners"].list.len().to_numpy().astype(np.int64)
        partners = rows["partners"].explode(empty_as_null=False).to_numpy().astype(np.uint64)
        partner_ms = rows["partner_ms"].explode(empty_as_null=False).to_numpy().astype(np.int64)
        scores = rows["swarm_score"].to_numpy()
        self._name(rows, actors, keys)
        self.actors.apply(_exposures(rows, times_ms, actors, keys, spaces))
        of = np.repeat(np.arange(len(rows)), counts)
        self.ties.apply(
            Meetings(
                times_ms[of], actors[of], partners, partner_ms, keys[of], spaces[of], scores[of]
            )
        )
        seen = np.flatnonzero(rows["swarming"].to_numpy())
        if len(seen):
            among = np.full(len(rows), -1, dtype=np.int32)
            among[seen] = np.arange(len(seen), dtype=np.int32)
            shown = among[of] >= 0
            self.campaigns.see(
                Sightings(
                    times_ms=times_ms[seen],
                    keys=keys[seen],
                    spaces=spaces[seen],
                    actors=actors[seen],
                    scores=scores[seen],
                    crowds=rows["swarm_actors"].to_numpy()[seen],
                    expected=rows["swarm_expected"].to_numpy()[seen],
                    events=rows["event_id"][seen].to_list(),
                    partner_of=among[of][shown],
                    partners=partners[shown],
                    partner_ms=partner_ms[shown],
                )
            )

    def _name(
        self, rows: pl.DataFrame, actors: npt.NDArray[np.uint64], keys: npt.NDArray[np.uint64]
    ) -> None:
        founders = rows["founder"].to_numpy()
        known = np.flatnonzero((founders != 0) & rows["founder_id"].is_not_null().to_numpy())
        self.names.note(founders[known], rows["founder_id"][known])
        self.names.note(actors, rows["user_id"])
        self.key_names.note(keys, rows["key"])

    def _tick(self, now_ms: int, result: StageOutputs) -> list[Output]:
        """Judge ties, group them, ask the rules; ``now_ms`` is a tick that is over."""
        campaigns = self.campaigns
        since_ms = now_ms - campaigns.settings.silence_ms
        ties = self.ties.significant(self.actors, campaigns.swarm_keys, now_ms, since_ms)
        changes = campaigns.update(now_ms, ties)
        result.campaigns.update(Counter(change.kind for change in changes))
        told = [change for change in changes if change.kind != "closed"]
        moments = [self._moment(told, now_ms)] if told else []
        outputs = list(self.alerting.outputs(moments, result.findings, result.shed))
        return [*outputs, *self.alerting.close_due(now_ms)]

    def _moment(self, changes: list[CampaignChange], now_ms: int) -> Moment:
        frame = campaign_frame(changes)
        rules = self.shared.campaign_rules
        held = rules.held(frame, np.ones(len(frame), dtype=np.bool_))
        spaces = [key.spec.name for key in self.shared.keys]
        sheet = Sheet(
            frame,
            group=lambda row: campaign_group(changes[row], spaces, self.names, self.key_names),
        )
        findings = [
            Finding(rules.rules[rule], changes[row].campaign_id, sheet, row)
            for row, rule in zip(held.positions.tolist(), held.rules.tolist(), strict=True)
        ]
        return Moment(now_ms, now_ms, sheet, 0, findings=findings)


def _exposures(
    rows: pl.DataFrame,
    times_ms: Int64s,
    actors: npt.NDArray[np.uint64],
    keys: npt.NDArray[np.uint64],
    spaces: npt.NDArray[np.uint8],
) -> Exposures:
    """The founder of a key is exposed right before the second actor."""
    founders = rows["founder"].to_numpy()
    at = np.flatnonzero(founders)
    every = np.arange(len(rows))
    order = np.argsort(np.concatenate((2 * at, 2 * every + 1)), kind="stable")
    source = np.concatenate((at, every))[order]
    zeros, ones = np.zeros(len(at)), np.ones(len(at))
    return Exposures(
        times_ms[source],
        np.concatenate((founders[at], actors))[order],
        keys[source],
        spaces[source],
        np.concatenate((zeros, rows["chance"].to_numpy()))[order],
        np.concatenate((ones, rows["crowd"].to_numpy()))[order],
    )
