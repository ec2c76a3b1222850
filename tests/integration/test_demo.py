"""The demo as a newcomer runs it: to its end, with Ctrl-C in a terminal, on a taken port."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
import termios
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

DEADLINE_S = 180.0
LAST_LINE = re.compile(r"([\d,]+) events, ([\d,]+) alerts, ([\d,]+) incidents")
QUICK = ("--users", "2000", "--speed", "60")


def command(out: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "monitor", "demo", "--out", str(out), *arguments]


@contextmanager
def started(*arguments: str, stdout: int = subprocess.PIPE) -> Iterator[subprocess.Popen[str]]:
    """A process that is gone when the block ends."""
    process = subprocess.Popen(
        arguments, stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.STDOUT, text=True
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def read_until(process: subprocess.Popen[str], wanted: Callable[[str], bool]) -> str:
    """The lines up to the first that is ``wanted``."""
    assert process.stdout is not None
    read: list[str] = []
    for line in process.stdout:
        read.append(line)
        if wanted(line):
            return "".join(read)
    raise AssertionError("it ended before: " + "".join(read))


def counts(text: str) -> tuple[int, int, int]:
    """The counts of the last line, which must be nothing else."""
    match = LAST_LINE.fullmatch(text.splitlines()[-1])
    assert match, text
    events, alerts, incidents = (int(part.replace(",", "")) for part in match.groups())
    return events, alerts, incidents


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What a demo of ten simulated minutes in ten seconds printed, and its results."""
    out = tmp_path_factory.mktemp("demo") / "out"
    with started(*command(out, *QUICK, "--minutes", str(10 / 60))) as process:
        text, _ = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 0, text
    return text, out


def test_the_demo_ends_by_itself_finds_attacks_and_leaves_its_results(
    finished: tuple[str, Path],
) -> None:
    """What is printed, written and stored agrees."""
    text, out = finished
    events, alerts, incidents = counts(text)
    assert events > 3_000
    assert alerts >= 10
    written = lines(out / "alerts.ndjson")
    assert len(written) == alerts
    assert len({update["incident_id"] for update in lines(out / "incidents.ndjson")}) == incidents
    assert all(alert["evidence"] for alert in written)
    with closing(sqlite3.connect(out / "floodwatch.db")) as connection:
        stored = connection.execute("SELECT alert_id FROM alerts ORDER BY alert_id").fetchall()
    assert [alert_id for (alert_id,) in stored] == sorted(str(one["alert_id"]) for one in written)
    planted = re.search(r"Planted attacks begun: (\d+), with alerts: (\d+)", text)
    assert planted
    assert int(planted[2]) >= 8
    assert f"Results in {out}" in text
    assert "\x1b" not in text


def test_the_same_seed_gives_the_same_alerts_at_any_speed(
    finished: tuple[str, Path], tmp_path: Path
) -> None:
    """Pace and machine do not matter, only what is simulated: the lines are equal.

    Those of a stage are in one order; how the lines of several stages take turns depends on how
    many events were taken at once.
    """
    arguments = ("--users", "2000", "--speed", "600", "--minutes", str(1 / 60))
    with started(*command(tmp_path, *arguments, "--metrics-port", "0")) as process:
        text, _ = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 0, text
    assert counts(text) == counts(finished[0])
    for name in ("alerts.ndjson", "decisions.ndjson", "incidents.ndjson"):
        lines = (tmp_path / name).read_bytes().splitlines()
        assert sorted(lines) == sorted((finished[1] / name).read_bytes().splitlines())


@contextmanager
def taken(port: int) -> Iterator[None]:
    """A port that is in use: by us, or by whoever has it already."""
    try:
        server = socket.create_server(("127.0.0.1", port))
    except OSError:
        yield
        return
    with server:
        yield


def test_metrics_are_served_while_it_runs_and_sigterm_ends_it_with_its_report(
    tmp_path: Path,
) -> None:
    """The port it would take is in use: it takes another, says so, and counts there."""
    with taken(9464), started(*command(tmp_path / "out", *QUICK)) as process:
        head = read_until(process, lambda line: "generations_1m" in line)
        match = re.search(r"http://127\.0\.0\.1:(\d+)/metrics", head)
        assert match
        assert match[1] != "9464"
        with urllib.request.urlopen(match[0], timeout=10) as response:
            text = response.read().decode()
        address = match[0].removesuffix("/metrics")
        with urllib.request.urlopen(f"{address}/readyz", timeout=10) as response:
            assert response.status == 200
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 0, head + rest
    assert re.search(r'^floodwatch_events_total\{type="share.created"\} [1-9]', text, re.MULTILINE)
    assert re.search(r'^floodwatch_key_rows\{key_space="user"\} [1-9]', text, re.MULTILINE)
    assert re.search(r"^floodwatch_alert_delay_seconds_count [1-9]", text, re.MULTILINE)
    _, alerts, _ = counts(rest)
    assert len(lines(tmp_path / "out" / "alerts.ndjson")) == alerts > 0
    assert "Traceback" not in head + rest


def test_a_port_that_was_asked_for_and_is_taken_is_an_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        with started(*command(tmp_path / "out", "--metrics-port", port)) as process:
            text, _ = process.communicate(timeout=DEADLINE_S)
            assert process.returncode == 1
    assert f"error: cannot serve metrics on 127.0.0.1:{port}" in text
    assert "Traceback" not in text


def test_in_a_terminal_there_is_a_live_picture_and_the_last_line_is_plain(tmp_path: Path) -> None:
    """A real terminal (pty): the picture is drawn on the other screen and given back at Ctrl-C."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environ = {k: v for k, v in os.environ.items() if k not in {"COLUMNS", "LINES", "NO_COLOR"}}
    process = subprocess.Popen(
        command(tmp_path / "out", *QUICK, "--metrics-port", "0"),
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env={**environ, "TERM": "xterm-256color"},
        start_new_session=True,
    )
    os.close(follower)
    try:
        text = read_terminal(leader, lambda seen: "generations_1m" in seen)
        process.send_signal(signal.SIGINT)
        text += read_terminal(leader, lambda seen: LAST_LINE.search(plain(seen)) is not None)
        assert process.wait(DEADLINE_S) == 0
    finally:
        process.kill()
        process.wait()
        os.close(leader)
    assert text.index("\x1b[?1049h") < text.index("newest alerts") < text.index("\x1b[?1049l")
    counts(plain(text[text.index("\x1b[?1049l") :]).rstrip())


def read_terminal(leader: int, enough: Callable[[str], bool]) -> str:
    """What the terminal got, until that is ``enough`` or the deadline has passed."""
    seen, end_s = b"", time.monotonic() + DEADLINE_S
    while not enough(seen.decode(errors="replace")):
        remaining_s = end_s - time.monotonic()
        ready, _, _ = select.select([leader], [], [], max(0.0, remaining_s))
        assert ready, f"not within {DEADLINE_S:g} s; got {seen[-2_000:]!r}"
        seen += os.read(leader, 65_536)
    return seen.decode(errors="replace")


def plain(text: str) -> str:
    """Without the terminal's control sequences."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r\n", "\n")
