"""What the control counted, held against what lies in its topic."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass

from tests.chaos.control_app import TABLE
from tests.chaos.reading import read_topic

__all__ = ["ControlFigures", "control_command", "judge_control"]


@dataclass(frozen=True, slots=True)
class ControlFigures:
    """``lost`` and ``doubled`` are summed over users: what was counted too little or too much."""

    events: int
    counted: int
    lost: int
    doubled: int

    @property
    def wrong(self) -> int:
        """The sum over users of |counted - true|."""
        return self.lost + self.doubled


def control_command(bootstrap: str, group: str, topic: str, partitions: int) -> list[str]:
    """The command line of a control process."""
    arguments = [bootstrap, group, topic, str(partitions)]
    return [sys.executable, "-m", "tests.chaos.control_app", *arguments]


def judge_control(bootstrap: str, group: str, topic: str, partitions: int) -> ControlFigures:
    """Compare the Table, as its changelog topic has it, with the topic counted by user."""
    true = Counter(record.key for record in read_topic(bootstrap, topic, partitions))
    counted: dict[bytes, int] = {}
    for record in read_topic(bootstrap, f"{group}-{TABLE}-changelog", partitions):
        counted[record.key] = int(record.value or b"0")
    differences = [counted.get(user, 0) - count for user, count in true.items()]
    return ControlFigures(
        events=true.total(),
        counted=sum(counted.values()),
        lost=-sum(difference for difference in differences if difference < 0),
        doubled=sum(difference for difference in differences if difference > 0),
    )
