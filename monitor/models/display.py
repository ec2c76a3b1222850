"""Cards of models in a terminal."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from rich.console import Console

    from monitor.models.card import Card

__all__ = ["day", "print_card"]

_HOUR_MS = 3_600_000


def day(time_ms: int) -> str:
    """A time to the minute, UTC."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")


def print_card(console: Console, identity: str, card: Card) -> None:
    """What a model is, on one screen."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    data, calibration = card.data, card.calibration
    hours = (data.last_ms - data.held_out_from_ms) / _HOUR_MS
    sources = ", ".join(data.sources)
    lines = {
        "model": identity,
        "pack": f"{card.pack} {card.pack_version}",
        "looks at": f"{len(card.features)} features, where {card.where}",
        "how often": f"a user at most every {card.every_ms / 1000:g} s",
        "data": f"{day(data.first_ms)} to {day(data.last_ms)} UTC, {sources}",
        "rows": f"{data.training_rows:,} trained on, {data.rows:,} calibrated on",
        "users": f"{data.users:,}, and {data.excluded_users:,} left out",
        "trees": f"{card.parameters.trees} of {card.parameters.max_samples:,} rows",
        "wanted": f"at most {calibration.wanted_per_10000:g} alerts for 10,000 users and day",
        "alerts": f"at score {calibration.alert_score:.4f}, rank {calibration.alert_rank:.6f}",
        "calibrated": f"{calibration.alerting_user_days} of {calibration.user_days:,} user-days",
        "held out": f"{calibration.held_out_alerting_user_days} of "
        f"{calibration.held_out_user_days:,} user-days in the last {hours:.1f} h",
        "too old": f"{card.max_age_days:g} days after its data",
        "made with": ", ".join(f"{name} {v}" for name, v in card.versions.items()),
    }
    for name, text in lines.items():
        table.add_row(name, text)
    console.print(table)
