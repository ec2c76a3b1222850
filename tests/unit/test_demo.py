"""The parts of the demo: rates, pace, slices, what is on the board, what the picture shows."""

from __future__ import annotations

import io
import json
import re
import signal
from dataclasses import dataclass

import pytest
from rich.console import Console

from detectors.pack import SEVERITIES
from detectors.rules import Condition
from monitor.demo.board import Board, RateMeter
from monitor.demo.display import LineDisplay, LiveDisplay, display_for
from monitor.demo.feed import slices
from monitor.demo.schedule import Schedule
from monitor.demo.view import clean, draw, evidence_text
from monitor.signals import stop_on_signals
from monitor.simulator import load_scenario, simulate_chunks
from tests.support.outputs import TIME_MS, a_decision, an_alert, an_incident


@dataclass
class Clock:
    """A clock that is set by hand."""

    now_s: float = 1_000.0

    def __call__(self) -> float:
        return self.now_s


def a_board() -> Board:
    return Board(
        pack="default 0123456789abcdef",
        speed=10.0,
        metrics_address="http://127.0.0.1:9464",
        results="build/demo",
        started_s=1_000.0,
    )


def a_busy_board() -> Board:
    """More of everything than fits on a screen."""
    board = a_board()
    for number in range(60):
        severity = SEVERITIES[number % 5]
        board.take(
            [
                an_incident(number, severity=severity, key=f"user-{number}"),
                an_alert(number, severity=severity, rule_id=f"rule-{number % 12}"),
                a_decision(number, user_id=f"user-{number}", expires_ms=86_400_000),
            ],
            {},
        )
        board.rate.add(900 + 10 * number, 1_000.0 + number)
    board.events, board.event_time_ms, board.lag_s = 54_321, TIME_MS, 0.018
    return board


def lines(board: Board, width: int, height: int) -> list[str]:
    """The picture as a terminal of this size shows it."""
    file = io.StringIO()
    console = Console(file=file, width=width, height=height, force_terminal=True, no_color=True)
    console.print(draw(board, 1_060.5, width, height))
    text = re.sub(r"\x1b\[[0-9;]*m", "", file.getvalue())
    return text.rstrip("\n").split("\n")


def test_the_rate_is_the_mean_of_the_last_complete_seconds() -> None:
    meter = RateMeter()
    assert meter.per_second(10.0) == 0
    for tick in range(100):
        meter.add(50, 10.0 + tick / 10)
    assert meter.per_second(20.0) == 500
    assert meter.history(20.0, 4) == [500, 500, 500, 500]
    # Half a second into the next one, with nothing so far: only complete seconds count.
    assert meter.per_second(20.5) == 500
    # A pause shows.
    assert meter.per_second(22.0) == 300
    assert meter.history(22.0, 4) == [500, 500, 0, 0]


def test_the_rate_meter_remembers_a_minute() -> None:
    meter = RateMeter(seconds=60)
    for second in range(1_000):
        meter.add(second, float(second))
    assert len(meter.history(1_000.0, 500)) <= 60


def test_simulated_time_is_due_in_proportion_to_the_speed() -> None:
    clock = Clock()
    schedule = Schedule(TIME_MS, speed=10.0, clock=clock)
    assert schedule.due_s(TIME_MS + 60_000) == 1_006.0
    clock.now_s = 1_006.5
    assert schedule.lag_s(TIME_MS + 60_000) == 0.5
    schedule.hold_back(TIME_MS + 60_000)
    assert schedule.slipped_s == 0


def test_a_machine_that_cannot_keep_up_slows_simulated_time_and_the_lag_is_bounded() -> None:
    """Each slice takes twice the time it may: speed halves, lag stays at its bound."""
    clock = Clock()
    schedule = Schedule(TIME_MS, speed=10.0, clock=clock, max_lag_s=2.0)
    lags_s = []
    for number in range(1, 101):
        end_ms = TIME_MS + 2_000 * number
        clock.now_s = max(clock.now_s, schedule.due_s(end_ms)) + 0.4
        lags_s.append(schedule.lag_s(end_ms))
        schedule.hold_back(end_ms)
    assert max(lags_s) <= 2.0 + 0.4
    assert schedule.slipped_s == pytest.approx(100 * 0.2 - 2.0, abs=0.5)


def test_slices_are_the_simulation_cut_by_time() -> None:
    """Every event is in the slice of its time, in order; truth and begun attacks come along."""
    scenario = load_scenario("demo")
    (chunk,) = simulate_chunks(scenario, seed=3, users=2_000, minutes=2.0)
    again = simulate_chunks(scenario, seed=3, users=2_000, minutes=2.0)
    pieces = list(slices(again, 7_000))
    assert [piece.end_ms for piece in pieces[:-1]] == [
        chunk.begin_ms + 7_000 * number for number in range(1, len(pieces))
    ]
    assert pieces[-1].end_ms == chunk.end_ms
    ids = [json.loads(record)["event_id"] for piece in pieces for record in piece.records]
    assert ids == chunk.events["event_id"].to_list()
    for piece in pieces:
        times_ms = [json.loads(record)["time"] for record in piece.records]
        assert all(piece.end_ms - 7_000 <= time_ms < piece.end_ms for time_ms in times_ms)
        attack_of = piece.truth.attack_of_event
        of_records = {json.loads(record)["event_id"] for record in piece.records}
        assert piece.begun == {attack_of[i] for i in of_records if i in attack_of}
    assert frozenset().union(*(p.begun for p in pieces)) == set(chunk.labels["attack_id"])


def test_the_board_counts_outputs_and_compares_them_with_the_truth() -> None:
    board = a_board()
    board.begun = {"attack-1": "burst-bot", "attack-2": "scrape"}
    board.events = 12_345
    board.take(
        [an_incident(1), an_alert(1), a_decision(1), an_incident(2), an_alert(2)],
        {"evt-1": "attack-1"},
    )
    assert board.seen == {"attack-1"}
    assert board.unseen_kinds == ["scrape"]
    assert board.honest_alerts == 1
    assert board.final_line == "12,345 events, 2 alerts, 2 incidents"
    assert set(board.open_incidents) == {"inc_1", "inc_2"}
    board.take([an_incident(1, "closed", findings=4)], {})
    assert set(board.open_incidents) == {"inc_2"}
    assert board.incidents == 2


@pytest.mark.parametrize(("width", "height"), [(80, 24), (60, 20), (130, 40), (220, 60)])
def test_the_picture_fills_the_terminal_exactly_and_never_overflows(
    width: int, height: int
) -> None:
    for board in (a_board(), a_busy_board()):
        picture = lines(board, width, height)
        assert len(picture) == height
        assert all(len(line) == width for line in picture)


def test_the_picture_shows_rate_lag_totals_alerts_with_evidence_rules_incidents_and_decisions() -> (
    None
):
    for width, height in ((80, 24), (130, 40)):
        text = "\n".join(lines(a_busy_board(), width, height))
        for part in (
            "1,470 events/s",
            "event time 09:00:00 (10×)",
            "lag 18 ms",
            "54,321 events  60 alerts  60 incidents  60 decisions  0 dead letters  0 late",
            "Burst of generations",
            "generations_1m 45 ≥ 30",
            "open incidents: 60",
            "critical user-59",
            "throttle user-59 generation 24 h",
            "http://127.0.0.1:9464/metrics",
            "build/demo",
            "rule-0",
        ):
            assert part in text


def test_what_comes_from_outside_cannot_control_the_terminal() -> None:
    board = a_board()
    evil = "\x1b[2J\x07[red]x[/red]\u202e" + "y" * 500
    board.take([an_alert(1, key=evil, title=evil), an_incident(1, key=evil)], {})
    board.take([a_decision(1, user_id=evil)], {})
    picture = lines(board, 80, 24)
    text = "".join(picture)
    assert "\x1b[2J" not in text
    assert "\x07" not in text
    assert "\u202e" not in text
    assert "[red]" in text
    assert all(len(line) == 80 for line in picture)
    assert len(clean(evil)) <= 120


def test_evidence_shows_numbers_that_held_each_once() -> None:
    evidence = (
        Condition("type", "=", "share.created", "share.created", holds=True),
        Condition("age_days", "<", 1, 0.644, holds=True),
        Condition("ratio", ">=", 0.5, 0.81234, holds=True),
        Condition("ratio", ">=", 0.4, 0.81234, holds=True),
        Condition("views", ">=", 2_000, 2_844.0, holds=True),
        Condition("other", ">=", 3, 1.0, holds=False),
    )
    shown = evidence_text(evidence).plain
    assert shown == "ratio 0.812 ≥ 0.5 · views 2,844 ≥ 2,000 · age_days 0.644 < 1"
    only_text = (Condition("c2pa_state", "=", "stripped", "stripped", holds=True),)
    assert evidence_text(only_text).plain == "c2pa_state stripped = stripped"


def test_without_a_terminal_every_alert_is_a_line() -> None:
    file = io.StringIO()
    console = Console(file=file, width=80)
    display = display_for(console)
    assert isinstance(display, LineDisplay)
    board = a_board()
    with display:
        display.show(board, 1_000.0)
        for number in range(30):
            board.take([an_alert(number)], {})
        display.show(board, 1_000.1)
        board.take([an_alert(99, key="user-99")], {})
        display.show(board, 1_000.2)
        board.events, board.event_time_ms = 500, TIME_MS
        display.show(board, 1_006.0)
    written = file.getvalue().splitlines()
    assert len(written) == 20 + 1 + 1 + 1
    assert "\x1b" not in file.getvalue()
    assert written[0] == "09:00:00 HIGH user-1 Burst of generations: generations_1m 45 ≥ 30"
    assert written[20] == "... and 10 more alerts"
    assert "user-99" in written[21]
    assert "500 events, 31 alerts, 0 incidents" in written[22]


def test_on_a_terminal_the_picture_takes_the_screen_and_gives_it_back() -> None:
    file = io.StringIO()
    console = Console(file=file, width=80, height=24, force_terminal=True)
    display = display_for(console)
    assert isinstance(display, LiveDisplay)
    with display:
        display.show(a_busy_board(), 1_060.0)
        size = len(file.getvalue())
        display.show(a_busy_board(), 1_060.1)
        assert len(file.getvalue()) == size, "the last picture was too new for another"
        display.show(a_busy_board(), 1_060.3)
        assert len(file.getvalue()) > size
    text = file.getvalue()
    assert text.index("\x1b[?1049h") < text.index("Floodwatch") < text.index("\x1b[?1049l")


def test_the_first_signal_stops_the_second_is_not_caught() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stop_on_signals() as stop:
        assert not stop.is_set()
        signal.raise_signal(signal.SIGTERM)
        assert stop.is_set()
        assert signal.getsignal(signal.SIGTERM) is before
    assert signal.getsignal(signal.SIGTERM) is before
