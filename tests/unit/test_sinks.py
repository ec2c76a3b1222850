"""The file sink: one object a line, whole batches, over the files of an earlier run."""

from __future__ import annotations

import base64
import json
from contextlib import closing
from pathlib import Path

import polars as pl

from monitor.sinks import NdjsonSink
from monitor.wire import DeadLetter, Reason
from tests.support.outputs import a_decision, an_alert, an_incident


def test_files_hold_one_object_a_line_in_log_order(tmp_path: Path) -> None:
    letter = DeadLetter("topic", 0, 9, Reason.EMPTY, "$", "an empty record", b"\xff\x00")
    with closing(NdjsonSink(tmp_path)) as sink:
        sink.write([an_incident(1), an_alert(1), an_alert(2)], [letter])
        assert len((tmp_path / "alerts.ndjson").read_bytes().splitlines()) == 2
        sink.write([an_alert(3), a_decision(1)])
    alerts = pl.read_ndjson(tmp_path / "alerts.ndjson")
    assert alerts["alert_id"].to_list() == ["alr_1", "alr_2", "alr_3"]
    assert alerts["evidence"].list.len().to_list() == [1, 1, 1]
    assert json.loads((tmp_path / "incidents.ndjson").read_text())["state"] == "opened"
    assert json.loads((tmp_path / "decisions.ndjson").read_text())["decision_id"] == "dec_1"
    dead = json.loads((tmp_path / "dead_letters.ndjson").read_text())
    assert dead["reason"] == "empty"
    assert base64.b64decode(dead["raw"]) == b"\xff\x00"


def test_files_of_an_earlier_run_are_replaced(tmp_path: Path) -> None:
    for number in (1, 2):
        with closing(NdjsonSink(tmp_path)) as sink:
            sink.write([an_alert(number)])
    assert json.loads((tmp_path / "alerts.ndjson").read_text())["alert_id"] == "alr_2"
