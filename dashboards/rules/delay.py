"""The objective that events are processed in time, and the alerts about its error budget."""

from __future__ import annotations

from typing import Final

from dashboards.objectives import (
    BURN_RATES,
    EVENT_DELAY_MAX_S,
    EVENT_DELAY_OBJECTIVE,
    BurnRate,
)
from dashboards.rules.model import Alert, Case, Group
from dashboards.rules.recording import event_delay_misses

__all__ = ["DELAY"]

_METRIC: Final = "floodwatch_event_delay_seconds"
_PER_MINUTE: Final = 10_000


def _series(on_time: str, minutes: int) -> dict[str, str]:
    """Events of a job: so many on time (promtool's notation), of 10,000 a minute."""
    labels = 'job="floodwatch-worker", instance="a"'
    return {
        f'{_METRIC}_bucket{{{labels}, le="5.0"}}': on_time,
        f"{_METRIC}_count{{{labels}}}": f"0+{_PER_MINUTE}x{minutes}",
    }


def _cases(burn: BurnRate, minutes: int, says: str) -> tuple[Case, ...]:
    """Twice too fast; within bounds; and much too fast, but over by now."""
    job = {"job": "floodwatch-worker"}
    fast = round(_PER_MINUTE * (1 - 2 * burn.most))
    slow = round(_PER_MINUTE * (1 - 0.9 * burn.most))
    over = minutes // 2
    recovered = f"0+{fast}x{over} {over * fast + _PER_MINUTE}+{_PER_MINUTE}x{minutes - over}"
    at = f"{minutes}m"
    return (
        Case(_series(f"0+{fast}x{minutes}", minutes), at, job, says),
        Case(_series(f"0+{slow}x{minutes}", minutes), at),
        Case(_series(recovered, minutes), at),
    )


def _alert(burn: BurnRate, minutes: int) -> Alert:
    long, short = event_delay_misses(burn.long), event_delay_misses(burn.short)
    objective = f"{EVENT_DELAY_OBJECTIVE:.1%}"
    share = f"{200 * burn.most:.4g}"

    def says(value: str) -> str:
        return (
            f"{value} of the events of the last {burn.long} took longer than "
            f"{EVENT_DELAY_MAX_S:g} s: {burn.factor:g} times or more what the objective "
            f"({objective} on time) allows, and it goes on in the last {burn.short}."
        )

    return Alert(
        name=f"FloodwatchEventsDelayed{burn.long}",
        expr=f"{long} > {burn.most:.6g}\nand\n{short} > {burn.most:.6g}",
        audience=burn.audience,
        summary="Events are processed too late",
        description=says("{{ $value | humanizePercentage }}"),
        dashboard="floodwatch-pipeline",
        topic="delay",
        cases=_cases(burn, minutes, says(f"{share}%")),
    )


DELAY: Final = Group(
    "floodwatch-delay",
    tuple(
        _alert(burn, minutes)
        for burn, minutes in zip(BURN_RATES, (120, 480, 1_980, 4_980), strict=True)
    ),
)
