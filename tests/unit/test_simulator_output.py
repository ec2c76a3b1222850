"""What the simulator writes: the JSON of the wire, files, and Kafka's keys and partitions."""

from __future__ import annotations

import io
import ipaddress
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import typer
import zstandard
from aiokafka.partitioner import murmur2 as reference_murmur2
from polars.testing import assert_frame_equal
from typer.testing import CliRunner

from detectors.events import COLUMNS, COLUMNS_BY_NAME, event_schema
from detectors.fingerprint import prompt_fingerprint, prompt_signature, signature_values
from monitor.simulator import (
    OutputError,
    SimulateOptions,
    Simulation,
    command,
    load_scenario,
    run,
    simulate,
    to_wire_json,
)
from monitor.simulator.kafka_output import event_keys, murmur2
from monitor.wire import Decoder

BODIES = ("generation", "share", "feedback")
OPTIONS = SimulateOptions("all-attacks", "", seed=6, users=150, minutes=30)


@pytest.fixture(scope="module")
def simulation() -> Simulation:
    return simulate(load_scenario("all-attacks"), seed=6, users=150, minutes=30)


def _value_at(event: dict[str, Any], path: str) -> object:
    """What lies at a ``Column.path`` of a decoded event; None for nothing."""
    value: Any = event
    for part in path.split("."):
        name = part.removesuffix("[0]")
        value = value.get(name) if isinstance(value, dict) else None
        if part.endswith("[0]") and value is not None:
            assert isinstance(value, list)
            assert len(value) <= 1
            value = value[0] if value else None
    return value


def _body(event_type: str) -> str:
    return next((body for body in BODIES if event_type.startswith(body)), "feedback")


def test_json_says_what_the_columns_say(simulation: Simulation) -> None:
    """Value by value where ``Column.path`` puts it, for every event and column."""
    texts = to_wire_json(simulation.events)
    assert texts.len() == simulation.events.height
    rows = simulation.events.with_columns(pl.col("type").cast(pl.String)).iter_rows(named=True)
    for text, row in zip(texts, rows, strict=True):
        event = json.loads(text)
        for column in COLUMNS:
            path = column.path
            if column.name == "asset_id" and _body(row["type"]) == "feedback":
                path = "feedback.asset_id"
            assert _value_at(event, path) == row[column.name], (path, text)


def test_an_event_has_the_body_of_its_type_and_no_nulls(simulation: Simulation) -> None:
    for text in to_wire_json(simulation.events):
        event = json.loads(text)
        assert [name for name in BODIES if name in event] == [_body(event["type"])]
        assert "null" not in text


def test_the_decoder_of_the_product_reads_the_same_columns_back(simulation: Simulation) -> None:
    """Through JSON or straight as columns: the detection sees the same."""
    events = simulation.events
    values = [text.encode() for text in to_wire_json(events)]
    received_ms = [int(time_ms) for time_ms in events["time_ms"]]
    decoded = Decoder(frozenset(COLUMNS_BY_NAME)).decode(
        "test", values, range(len(values)), received_ms
    )
    assert not decoded.dead
    assert_frame_equal(decoded.frame.select(list(event_schema())), events)


def test_json_of_an_event_does_not_depend_on_its_neighbours(simulation: Simulation) -> None:
    whole = to_wire_json(simulation.events).to_list()
    alone = [to_wire_json(simulation.events[row]).item() for row in range(0, 2000, 97)]
    assert alone == whole[0:2000:97]


def test_json_keeps_text_that_looks_like_json() -> None:
    """Leaving out nulls must not touch values."""
    awkward = 'a,"model":null,\n"b\\'
    row: dict[str, object] = dict.fromkeys(event_schema())
    row |= {"event_id": awkward, "type": "generation.requested", "time_ms": 5, "user_id": "null"}
    row |= {"request_id": ',"x":null', "app_version": "é\u2028"}
    event = json.loads(to_wire_json(pl.DataFrame([row], schema=event_schema())).item())
    assert event["event_id"] == awkward
    assert event["user_id"] == "null"
    assert event["generation"] == {"request_id": ',"x":null'}
    assert event["client"]["app_version"] == "é\u2028"


def test_no_events_are_no_json() -> None:
    assert to_wire_json(pl.DataFrame(schema=event_schema())).to_list() == []


def test_identifiers_look_like_the_real_ones(simulation: Simulation) -> None:
    events = simulation.events
    patterns = {
        "event_id": r"^evt_[0-9a-z]{12}$",
        "user_id": r"^usr_[0-9a-z]{12}$",
        "device_id": r"^dev_[0-9a-z]{12}$",
        "session_id": r"^ses_[0-9a-z]{12}$",
        "asset_id": r"^vid_[0-9a-z]{12}$",
        "url": r"^https://video\.example/v/[0-9a-z]{12}$",
    }
    for name, pattern in patterns.items():
        assert events[name].drop_nulls().str.contains(pattern).all(), name
    for address in events["ip"].unique():
        assert str(ipaddress.ip_address(address)) == address


def test_fingerprints_and_signatures_have_the_form_of_the_helper(simulation: Simulation) -> None:
    requests = simulation.events.filter(pl.col("type") == "generation.requested")
    assert set(requests["prompt_fingerprint"].str.len_chars()) == {len(prompt_fingerprint("a"))}
    assert set(requests["prompt_signature"].str.len_chars()) == {len(prompt_signature("a"))}
    for signature in requests["prompt_signature"].head(50):
        assert len(signature_values(signature)) == 32


def test_one_prompt_has_one_fingerprint_and_one_signature(simulation: Simulation) -> None:
    signed = simulation.events.drop_nulls("prompt_signature")
    pairs = signed.select("prompt_fingerprint", "prompt_signature").unique()
    assert pairs["prompt_fingerprint"].n_unique() == pairs.height
    assert pairs.height < signed.height


@pytest.mark.parametrize("name", ["run.ndjson", "run.ndjson.zst", "run.parquet"])
def test_files_hold_the_simulation_with_the_truth_beside(
    simulation: Simulation, tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    result = run(replace(OPTIONS, out=str(path)))
    if name.endswith(".parquet"):
        assert_frame_equal(pl.read_parquet(path), simulation.events)
    else:
        data = path.read_bytes()
        if name.endswith(".zst"):
            data = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)).read()
        assert data.decode().splitlines() == to_wire_json(simulation.events).to_list()
    assert_frame_equal(pl.read_parquet(tmp_path / "run.labels.parquet"), simulation.labels)
    assert_frame_equal(pl.read_parquet(tmp_path / "run.actors.parquet"), simulation.actors)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [name, "run.labels.parquet", "run.actors.parquet"]
    )
    assert result.events == simulation.events.height
    assert result.attack_events == simulation.labels.height
    assert result.attackers == simulation.actors.height


@pytest.mark.parametrize(
    "out", ["run.csv", ".parquet", "kafka://host", "kafka://a:b:c", "kafka://"]
)
def test_an_output_that_cannot_be_is_refused_before_anything_is_simulated(out: str) -> None:
    with pytest.raises(OutputError, match=r"kafka://host:port"):
        run(replace(OPTIONS, out=out))


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    for name in ("a.ndjson", "a.parquet"):
        path = tmp_path / "gone" / name
        with pytest.raises(OutputError, match=f"gone/{name}: cannot be written"):
            run(replace(OPTIONS, out=str(path)))


def test_what_fails_half_way_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log that looks whole but is not would be worse than none."""

    def fail(_events: pl.DataFrame) -> pl.Series:
        raise RuntimeError("half way")

    monkeypatch.setattr("monitor.simulator.writers.to_wire_json", fail)
    with pytest.raises(RuntimeError, match="half way"):
        run(replace(OPTIONS, out=str(tmp_path / "run.ndjson")))
    assert list(tmp_path.iterdir()) == []


def test_feedback_is_keyed_by_whom_it_is_about(simulation: Simulation) -> None:
    keyed = simulation.events.with_columns(key=event_keys(simulation.events))
    is_feedback = pl.col("type").cast(pl.String).str.contains("^(report|verdict|appeal)")
    feedback = keyed.filter(is_feedback)
    assert feedback.height >= 40
    assert (feedback["key"] == feedback["subject_user_id"]).all()
    others = keyed.filter(~is_feedback)
    assert (others["key"] == others["user_id"]).all()


def test_partitions_are_chosen_as_kafka_clients_choose_them() -> None:
    """Otherwise one user's events could lie in different partitions of the three topics."""
    keys = [bytes(range(length)) for length in range(40)] + [b"usr_" + bytes([255, 0, 128])]
    assert murmur2(keys).tolist() == [reference_murmur2(key) for key in keys]


def test_the_command_says_in_a_line_what_it_made(tmp_path: Path) -> None:

    app = typer.Typer()
    app.command()(command.simulate)
    out = tmp_path / "run.parquet"
    arguments = ["--scenario", "burst-bot", "--users", "20", "--minutes", "10", "--out", str(out)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0
    [line] = result.output.splitlines()
    assert "1 attacks by 1 accounts" in line
    assert str(out) in line
    wrong = CliRunner().invoke(app, ["--scenario", "burst-bots", "--out", str(out)])
    assert wrong.exit_code == 1
    assert "did you mean 'burst-bot'?" in wrong.output
