"""All groups of rules, in the order of the rule files."""

from __future__ import annotations

from typing import Final

from dashboards.rules.delay import DELAY
from dashboards.rules.detection import DETECTION
from dashboards.rules.liveness import LIVENESS
from dashboards.rules.loss import LOSS
from dashboards.rules.model import Alert, Group
from dashboards.rules.recording import RECORDING
from dashboards.rules.store import STORE

__all__ = ["ALERTING", "RECORDED", "alerts"]

ALERTING: Final[tuple[Group, ...]] = (LIVENESS, DELAY, LOSS, STORE, DETECTION)
RECORDED: Final[tuple[Group, ...]] = (RECORDING,)


def alerts() -> tuple[Alert, ...]:
    """Every alerting rule."""
    return tuple(alert for group in ALERTING for alert in group.alerts)
