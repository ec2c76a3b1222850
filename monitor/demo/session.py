"""One run of the demo: slices of the simulated stream, paced, through the runner to the sinks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from monitor.demo.display import Display
from monitor.demo.schedule import Schedule

if TYPE_CHECKING:
    from monitor.demo.board import Board
    from monitor.demo.feed import Slice
    from monitor.health import Health
    from monitor.metrics import Metrics
    from monitor.runner import Runner
    from monitor.sinks import Sink

__all__ = ["SOURCE", "Session"]

SOURCE: Final = "simulator"
_GLANCE_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Session:
    """Everything a run works with; ``run`` it once. ``stop`` ends it between two slices."""

    runner: Runner
    sinks: Sequence[Sink]
    metrics: Metrics
    health: Health
    schedule: Schedule
    board: Board
    display: Display
    clock: Callable[[], float]
    stop: threading.Event

    def run(self, slices: Iterable[Slice]) -> None:
        """Process until there are no more slices or ``stop`` is set."""
        self.board.started_s = self.clock()
        self.schedule.start()
        for piece in slices:
            if not self._wait_until_due(piece):
                return
            self._apply(piece)
            self.display.show(self.board, self.clock())

    def _wait_until_due(self, piece: Slice) -> bool:
        """Wait, with the picture kept alive; False when the demo is to stop."""
        while not self.stop.is_set():
            self.health.beat()
            remaining_s = self.schedule.due_s(piece.end_ms) - self.clock()
            if remaining_s <= 0:
                return True
            self.stop.wait(min(remaining_s, _GLANCE_S))
            self.display.show(self.board, self.clock())
        return False

    def _apply(self, piece: Slice) -> None:
        board, started_s = self.board, self.clock()
        self.metrics.chunk_received(SOURCE, 0, len(piece.records))
        self.runner.push_records(SOURCE, piece.records, piece.end_ms)
        result = self.runner.run()
        for sink in self.sinks:
            sink.write(result.outputs, result.dead_letters)
        now_s = self.clock()
        self.metrics.chunk_processed(0, result, now_s - started_s)
        for letter in result.dead_letters:
            self.metrics.dead_letter(SOURCE, letter.reason)
        board.events += result.counts.events.total()
        board.late += result.counts.late
        board.dead_letters += len(result.dead_letters)
        board.rate.add(result.counts.events.total(), now_s)
        board.take(result.outputs, piece.truth.attack_of_event)
        for attack_id in sorted(piece.begun):
            board.begun[attack_id] = piece.truth.kind_of_attack[attack_id]
        board.event_time_ms = result.watermark_ms or board.event_time_ms
        board.lag_s = max(0.0, self.schedule.lag_s(piece.end_ms))
        self.schedule.hold_back(piece.end_ms)
        board.slipped_s = self.schedule.slipped_s
