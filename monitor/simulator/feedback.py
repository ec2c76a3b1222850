"""Reports, verdicts and appeals. What moderators decide comes minutes to hours later."""

from __future__ import annotations

from typing import Final

import numpy as np

from monitor.simulator.choices import choose, cumulative, heavy_tailed
from monitor.simulator.population import STAFF
from monitor.simulator.rows import ORIGIN, Rows, join_rows, rows_from
from monitor.simulator.vocabulary import (
    APP_VERSIONS,
    COUNTRIES,
    REASONS,
    TIERS,
    TYPE_CODES,
    VERDICTS,
    code_of,
)

__all__ = ["appeal_blocked", "report_assets"]

_STAFF_CREATED_MS: Final = 1_577_836_800_000  # 2020-01-01
_STAFF_ADDRESS: Final = 1 << 40
_MODERATION_MAX_S: Final = 10_800.0
_REPORT_REASON_SHARES: Final = cumulative(
    np.array([0.12, 0.34, 0.14, 0.12, 0.10, 0.10, 0.08, 0.0, 0.0])
)
_VERDICTS: Final = np.array([code_of(word, VERDICTS) for word in ("abuse", "benign", "unclear")])
_VERDICT_SHARES: Final = cumulative(np.array([0.08, 0.80, 0.12]))
_APPEAL_VERDICTS: Final = np.array([code_of(word, VERDICTS) for word in ("upheld", "overturned")])
_APPEAL_SHARES: Final = cumulative(np.array([0.45, 0.55]))


def report_assets(rng: np.random.Generator, reports: Rows, staff_count: int) -> Rows:
    """Give ``reports`` (with asset and subject) a reason; returns the verdicts on them."""
    reports["reason"] = choose(rng, _REPORT_REASON_SHARES, len(reports))
    verdicts = _by_staff(rng, reports, "verdict.given", staff_count)
    verdicts["verdict"] = _VERDICTS[choose(rng, _VERDICT_SHARES, len(verdicts))]
    return verdicts


def appeal_blocked(rng: np.random.Generator, appealed: Rows, staff_count: int) -> Rows:
    """Appeals against blocked generations, and what is decided."""
    appeals = rows_from(appealed["origin"], appealed["time_ms"], "appeal.filed")
    appeals["subject"] = appeals["origin"]["user"]
    appeals["reason"] = code_of("harmless_prompt", REASONS)
    delay_s = np.clip(heavy_tailed(rng, 150.0, 0.9, len(appeals)), 15.0, 1_800.0)
    appeals["time_ms"] += (1000.0 * delay_s).astype(np.int64)
    decisions = _by_staff(rng, appeals, "appeal.decided", staff_count)
    decisions["verdict"] = _APPEAL_VERDICTS[choose(rng, _APPEAL_SHARES, len(decisions))]
    return join_rows([appeals, decisions])


def _by_staff(rng: np.random.Generator, subjects: Rows, type_name: str, staff_count: int) -> Rows:
    """What moderators say about ``subjects``: same subject and asset, later, by one of them."""
    rows = subjects.copy()
    count = len(rows)
    rows["type"] = TYPE_CODES[type_name]
    rows["attack"] = -1
    member = rng.integers(0, staff_count, count)
    staff = np.zeros(count, dtype=ORIGIN)
    staff["user"] = STAFF + member
    staff["created_ms"] = _STAFF_CREATED_MS
    staff["device"] = STAFF + member
    staff["session"] = STAFF + member
    staff["address"] = _STAFF_ADDRESS
    staff["last_active_ms"] = -1
    staff["tier"] = code_of("enterprise", TIERS)
    staff["verified"] = True
    staff["country"] = code_of("US", COUNTRIES)
    staff["app_version"] = code_of("web-5.14.2", APP_VERSIONS)
    rows["origin"] = staff
    rows["reason"] = code_of("policy_review", REASONS)
    delay_s = np.clip(heavy_tailed(rng, 1_500.0, 0.9, count), 60.0, _MODERATION_MAX_S)
    rows["time_ms"] += (1000.0 * delay_s).astype(np.int64)
    return rows
