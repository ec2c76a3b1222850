"""Showing the demo: a live picture on a terminal, plain lines anywhere else."""

from __future__ import annotations

from types import TracebackType
from typing import Final, Protocol, Self

from rich.console import Console
from rich.live import Live

from detectors.incidents import Alert
from monitor.demo.board import Board
from monitor.demo.view import clean, clock_time, draw, why_text

__all__ = ["Display", "LineDisplay", "LiveDisplay", "display_for"]

_FRAME_S: Final = 0.25
_LINE_S: Final = 5.0
_MAX_ALERT_LINES: Final = 20


class Display(Protocol):
    """Shows a board while it is open; ``show`` may be called as often as one likes."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def show(self, board: Board, now_s: float) -> None:
        """Show what has changed, if it is time to."""
        ...


def display_for(console: Console) -> Display:
    """A live picture where there is a terminal, else lines."""
    return LiveDisplay(console) if console.is_terminal else LineDisplay(console)


class LiveDisplay:
    """Full screen, four pictures a second; the terminal is as before when it closes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, screen=True, auto_refresh=False)
        self._next_s = 0.0

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._live.stop()

    def show(self, board: Board, now_s: float) -> None:
        """Draw, unless the last picture is too new."""
        if now_s < self._next_s:
            return
        self._next_s = now_s + _FRAME_S
        width, height = self._console.size
        self._live.update(draw(board, now_s, width, height), refresh=True)


class LineDisplay:
    """Every alert as a line, and every five seconds where things stand."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next_s = 0.0
        self._alerts = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        return

    def show(self, board: Board, now_s: float) -> None:
        """Write the alerts since the last call, and where things stand if it is time to."""
        new = board.alerts - self._alerts
        self._alerts = board.alerts
        shown = list(board.newest_alerts)[: min(new, _MAX_ALERT_LINES)]
        for alert in reversed(shown):
            self._write(_alert_line(alert))
        if new > len(shown):
            self._write(f"... and {new - len(shown):,} more alerts")
        if now_s < self._next_s:
            return
        self._next_s = now_s + _LINE_S
        if board.event_time_ms:
            self._write(
                f"{clock_time(board.event_time_ms)} {board.rate.per_second(now_s):,.0f} events/s, "
                f"lag {1_000 * board.lag_s:,.0f} ms, {board.final_line}, "
                f"{board.decisions:,} decisions, {board.dead_letters:,} dead letters"
            )

    def _write(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def _alert_line(alert: Alert) -> str:
    return (
        f"{clock_time(alert.time_ms)} {alert.severity.upper()} {clean(alert.key)} "
        f"{clean(alert.title)}: {why_text(alert).plain}"
    )
