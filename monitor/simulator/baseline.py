"""The honest traffic of the platform, block after block of event time."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from monitor.simulator.arrivals import Arrivals
from monitor.simulator.choices import Floats, choose, choose_by, cumulative, heavy_tailed
from monitor.simulator.feedback import appeal_blocked, report_assets
from monitor.simulator.generation import GuardMix, choose_videos, outcomes
from monitor.simulator.population import DAY_MS, Population
from monitor.simulator.roles import Action
from monitor.simulator.rows import Integers, Rows, join_rows, put_rows, rows_from, take_rows
from monitor.simulator.sessions import (
    SESSION,
    advance,
    choose_actions,
    collect_finished,
    open_sessions,
)
from monitor.simulator.settings import BaselineSettings
from monitor.simulator.sharing import keep_provenance, set_destination
from monitor.simulator.vocabulary import TYPE_CODES

__all__ = ["PUBLIC_ASSET", "Baseline"]

PUBLIC_ASSET: Final = 1 << 43
"""The first number of the public videos that people find; own videos are below it."""

_GALLERY_PROMPT: Final = 1 << 42
_GALLERY_SIZE: Final = 60
_GALLERY_SHARE: Final = 0.02
_GROUP_TARGET: Final = 1 << 44
_GROUPS: Final = 4000
_SITE_TARGET: Final = 1 << 45
_SITES: Final = 400
_PUBLIC_FIGURES: Final = 300
_EDIT_DRIFT_PERCENT: Final = 30
_TREND_MS: Final = 1_800_000
"""So often the most popular video is forgotten and all others move up a rank."""

_CHANNEL_SHARES: Final = cumulative(
    np.array([[0.14, 0.52, 0.22, 0.10, 0.02], [0.42, 0.26, 0.12, 0.12, 0.08]])
)
"""Where found (row 0) and own videos (row 1) go."""
_NEVER_MS: Final = np.iinfo(np.int64).max
_BLOCKED_AGAIN: Final = 0.22
"""Who edits a prompt that was blocked is blocked again more often than others."""


def _zipf(count: int, skew: float) -> Floats:
    return cumulative(np.arange(1, count + 1, dtype=np.float64) ** -skew)


class Baseline:
    """Moves all honest people on. ``step`` has to be called for blocks that follow each other."""

    def __init__(
        self,
        population: Population,
        arrivals: Arrivals,
        settings: BaselineSettings,
        rng: np.random.Generator,
        start_ms: int,
    ) -> None:
        self._population = population
        self._arrivals = arrivals
        self._settings = settings
        self._rng = rng
        self._next_session = 0
        self._next_request = 0
        self._next_prompt = 0
        self._guard = GuardMix(blocked=settings.guard_blocked, flagged=settings.guard_flagged)
        self._asset_shares = _zipf(settings.trending_assets, settings.asset_skew)
        self._contact_shares = _zipf(20, 1.1)
        self._group_shares = _zipf(_GROUPS, 0.9)
        self._site_shares = _zipf(_SITES, 1.0)
        self._figure_shares = _zipf(_PUBLIC_FIGURES, 1.0)
        created_ms = population.created_ms
        newcomers = np.flatnonzero(created_ms >= start_ms)
        self._newcomers = newcomers[np.argsort(created_ms[newcomers], kind="stable")]
        self._newcomers_ms = created_ms[self._newcomers]
        self._in_session = np.zeros(population.size, dtype=np.bool_)
        self._sessions = np.zeros(0, dtype=SESSION)
        # When each session acts next; that of a session that is over is free for another.
        self._due_ms = np.zeros(0, dtype=np.int64)
        self._made_today = np.zeros(population.size, dtype=np.int64)
        self._today = start_ms // DAY_MS
        accounts = arrivals.in_progress(rng, start_ms)
        accounts = accounts[population.created_ms[accounts] < start_ms]
        self._open(accounts, np.full(len(accounts), start_ms, dtype=np.int64), under_way=True)

    def step(self, begin_ms: int, end_ms: int) -> Rows:
        """All events that the actions in [begin, end) cause, some of them later than ``end_ms``."""
        if begin_ms // DAY_MS != self._today:
            self._today = begin_ms // DAY_MS
            self._made_today[:] = 0
        self._welcome(begin_ms, end_ms)
        sessions = self._sessions
        caused: list[Rows] = []
        due = np.flatnonzero(self._due_ms < end_ms)
        while len(due):
            acting = take_rows(sessions, due)
            caused += self._act(acting)
            put_rows(sessions, due, acting)
            is_over = acting["left"] == 0
            self._close(acting[is_over])
            self._due_ms[due] = np.where(is_over, _NEVER_MS, acting["next_ms"])
            due = due[self._due_ms[due] < end_ms]
        return join_rows(caused)

    def _close(self, ended: Rows) -> None:
        accounts = ended["origin"]["user"]
        self._in_session[accounts] = False
        self._population.last_active_ms[accounts] = ended["next_ms"]

    def _welcome(self, begin_ms: int, end_ms: int) -> None:
        """Open the sessions that start in this block; a new account starts one at once."""
        created_ms = self._population.created_ms
        accounts, times_ms = self._arrivals.start(self._rng, begin_ms, end_ms)
        exists = created_ms[accounts] < begin_ms
        accounts, times_ms = accounts[exists], times_ms[exists]
        first, last = np.searchsorted(self._newcomers_ms, [begin_ms, end_ms])
        new = self._newcomers[first:last]
        first_look_ms = self._rng.integers(15_000, 180_000, len(new))
        accounts = np.concatenate([accounts, new])
        times_ms = np.concatenate([times_ms, created_ms[new] + first_look_ms])
        free = ~self._in_session[accounts]
        self._open(accounts[free], times_ms[free], under_way=False)

    def _open(self, accounts: Integers, times_ms: Integers, *, under_way: bool) -> None:
        pace = self._settings.pace
        opened = open_sessions(
            self._rng,
            self._population,
            accounts,
            times_ms,
            self._next_session,
            pace,
            under_way=under_way,
        )
        self._next_session += len(opened)
        self._in_session[accounts] = True
        # New sessions take the places of those that are over.
        places = np.flatnonzero(self._due_ms == _NEVER_MS)[: len(opened)]
        put_rows(self._sessions, places, opened[: len(places)])
        self._due_ms[places] = opened["next_ms"][: len(places)]
        added = opened[len(places) :]
        if len(added):
            self._sessions = join_rows([self._sessions, added])
            self._due_ms = np.concatenate([self._due_ms, added["next_ms"]])

    def _act(self, acting: Rows) -> list[Rows]:
        """One action of each session in ``acting``, which is moved on in place."""
        collect_finished(acting)
        actions = choose_actions(self._rng, acting, self._made_today[acting["origin"]["user"]])
        latency_s = np.zeros(len(acting))
        caused: list[Rows] = []
        chosen = np.flatnonzero(actions == Action.GENERATE)
        if len(chosen):
            sessions = take_rows(acting, chosen)
            rows, latency_s[chosen] = self._generate(sessions)
            put_rows(acting, chosen, sessions)
            caused += rows
        chosen = np.flatnonzero((actions == Action.SHARE_OWN) | (actions == Action.SHARE_FOUND))
        if len(chosen):
            caused += self._share(take_rows(acting, chosen), actions[chosen] == Action.SHARE_OWN)
        chosen = np.flatnonzero(actions == Action.VIEW)
        if len(chosen):
            caused.append(self._view(take_rows(acting, chosen)))
        chosen = np.flatnonzero(actions == Action.REPORT)
        if len(chosen):
            caused += self._report(take_rows(acting, chosen))
        advance(self._rng, acting, latency_s, self._settings.pace)
        return caused

    def _generate(self, sessions: Rows) -> tuple[list[Rows], Floats]:
        """Requests, what becomes of them, and appeals; also the latency of each request, s."""
        rng, count = self._rng, len(sessions)
        self._made_today[sessions["origin"]["user"]] += 1
        edits_blocked = self._write_prompts(sessions)
        requested = rows_from(sessions["origin"], sessions["next_ms"], "generation.requested")
        requested["request"] = self._next_request + np.arange(count)
        self._next_request += count
        for name in ("prompt", "edit"):
            requested[name] = sessions[name]
        requested["drift_percent"] = _EDIT_DRIFT_PERCENT
        choose_videos(rng, requested)
        names_person = rng.random(count) < self._settings.likeness
        figures = choose(rng, self._figure_shares, count)
        requested["likeness"] = np.where(names_person, figures, -1)

        blocked = np.full(count, self._settings.guard_blocked)
        blocked[edits_blocked] = max(_BLOCKED_AGAIN, self._settings.guard_blocked)
        blocked[names_person] = 0.2
        results = outcomes(rng, requested, self._guard, blocked=blocked)
        is_blocked = results["type"] == TYPE_CODES["generation.blocked"]
        is_made = results["type"] == TYPE_CODES["generation.completed"]
        sessions["was_blocked"] = is_blocked
        # A video has the number of the request that made it.
        sessions["coming_asset"][is_made] = requested["request"][is_made]
        sessions["coming_ms"][is_made] = results["time_ms"][is_made]
        appealing = is_blocked & (rng.random(count) < self._settings.appeals)
        rows = [requested, results]
        if appealing.any():
            rows.append(appeal_blocked(rng, results[appealing], self._population.staff_count))
        return rows, (results["time_ms"] - requested["time_ms"]) / 1000.0

    def _write_prompts(self, sessions: Rows) -> Integers:
        """The next prompt of each session: again, edited, new or from the public gallery.

        Returns the positions of sessions that edit a prompt that was blocked.
        """
        rng, count = self._rng, len(sessions)
        dice = rng.random(count)
        has_prompt = sessions["prompt"] >= 0
        was_blocked = sessions["was_blocked"] & has_prompt
        again = has_prompt & ~was_blocked & (dice < 0.25)
        edits = has_prompt & ~again & (dice < 0.62)
        new = ~again & ~edits
        gallery = new & (rng.random(count) < _GALLERY_SHARE)
        fresh = np.flatnonzero(new & ~gallery)
        sessions["edit"][edits] += 1
        sessions["prompt"][fresh] = self._next_prompt + np.arange(len(fresh))
        self._next_prompt += len(fresh)
        templates = rng.integers(0, _GALLERY_SIZE, count)
        sessions["prompt"][gallery] = _GALLERY_PROMPT + templates[gallery]
        sessions["edit"][new] = 0
        return np.flatnonzero(edits & was_blocked)

    def _find_assets(self, sessions: Rows) -> Integers:
        """Public videos: a few are found by many people, and which ones changes slowly."""
        ranks = choose(self._rng, self._asset_shares, len(sessions))
        passed: Integers = sessions["next_ms"] // _TREND_MS
        return PUBLIC_ASSET + (ranks + passed) % self._settings.trending_assets

    def _share(self, sessions: Rows, is_own: NDArray[np.bool_]) -> list[Rows]:
        """Shares of own or of found videos; some of the own ones are taken down again."""
        rng, count = self._rng, len(sessions)
        rows = rows_from(sessions["origin"], sessions["next_ms"], "share.created")
        rows["asset"] = np.where(is_own, sessions["asset"], self._find_assets(sessions))
        channels = choose_by(rng, _CHANNEL_SHARES, is_own.astype(np.int8))
        contacts = sessions["origin"]["user"] * 32 + choose(rng, self._contact_shares, count)
        groups = _GROUP_TARGET + choose(rng, self._group_shares, count)
        sites = _SITE_TARGET + choose(rng, self._site_shares, count)
        # By channel: nobody for the feed, a contact, a group, a contact, a site.
        targets = np.choose(channels, [contacts, contacts, groups, contacts, sites])
        set_destination(rng, rows, channels, targets)
        keep_provenance(rng, rows)
        regretted = is_own & (rng.random(count) < self._settings.removals)
        return [rows, self._removals(rows[regretted])] if regretted.any() else [rows]

    def _removals(self, shares: Rows) -> Rows:
        """The shares are taken down again, minutes to hours later."""
        rng = self._rng
        removed = shares.copy()
        removed["type"] = TYPE_CODES["share.removed"]
        delay_s = np.clip(heavy_tailed(rng, 600.0, 1.2, len(removed)), 20.0, 10_800.0)
        removed["time_ms"] += (1000.0 * delay_s).astype(np.int64)
        return removed

    def _view(self, sessions: Rows) -> Rows:
        """Somebody looks through a number of videos."""
        rows = rows_from(sessions["origin"], sessions["next_ms"], "share.viewed_burst")
        rows["asset"] = self._find_assets(sessions)
        views = heavy_tailed(self._rng, 9.0, 0.8, len(rows))
        rows["view_count"] = np.clip(views, 2, 120).astype(np.int32)
        return rows

    def _report(self, sessions: Rows) -> list[Rows]:
        """Somebody reports a public video; a moderator looks at it later."""
        # What many people see is mostly fine: most reports are about videos that few have seen.
        seldom_seen = PUBLIC_ASSET + self._rng.integers(
            0, self._settings.trending_assets, len(sessions)
        )
        is_popular = self._rng.random(len(sessions)) < 0.3
        assets = np.where(is_popular, self._find_assets(sessions), seldom_seen)
        owners = (assets * 2_654_435_761) % self._population.size
        rows = rows_from(sessions["origin"], sessions["next_ms"], "report.filed")
        rows["asset"] = assets
        rows["subject"] = owners
        return [rows, report_assets(self._rng, rows, self._population.staff_count)]
