"""Settings: precedence, errors that name the key and its source, the documentation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from detectors.topology import DEFAULT_MAX_USERS
from monitor.config import Settings, environment_name, setting_keys
from monitor.kafka.settings import WorkerSettings
from monitor.kafka.topics import TopicNames
from monitor.settings_sources import CONFIG_VARIABLE, ConfigurationError, load_settings

DOCUMENT = Path(__file__).parents[2] / "docs" / "configuration.md"


def problems(
    flags: dict[str, object] | None = None,
    environ: dict[str, str] | None = None,
    config: Path | None = None,
) -> list[str]:
    """The problems that ``load_settings`` reports."""
    with pytest.raises(ConfigurationError) as caught:
        load_settings(flags, config=config, environ=environ or {})
    return caught.value.problems


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_flags_win_over_environment_over_file_over_defaults(tmp_path: Path) -> None:
    file = written(
        tmp_path / "settings.yaml",
        "pack: from-file\nkafka: {group: file, chunk_records: 7, brokers: 'file:1'}\n",
    )
    environ = {"FLOODWATCH_KAFKA__GROUP": "environ", "FLOODWATCH_KAFKA__CHUNK_RECORDS": "8"}
    flags = {"kafka": {"group": "flag", "brokers": None}, "pack": None, "demo": {"out": None}}
    settings = load_settings(flags, config=file, environ=environ)
    assert settings.kafka.group == "flag"
    assert settings.kafka.chunk_records == 8
    assert settings.kafka.brokers == "file:1"
    assert settings.pack == "from-file"
    assert settings.kafka.merge_wait_ms == Settings().kafka.merge_wait_ms
    assert settings.demo == Settings().demo


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.yaml", "metrics:\n  port: 1234\nkafka:\n  topics:\n    alerts: my-alerts\n"),
        ("a.toml", '[metrics]\nport = 1234\n[kafka.topics]\nalerts = "my-alerts"\n'),
    ],
)
def test_yaml_and_toml_files_are_found_by_the_variable(
    tmp_path: Path, name: str, text: str
) -> None:
    file = written(tmp_path / name, text)
    settings = load_settings(environ={CONFIG_VARIABLE: str(file)})
    assert settings.metrics.port == 1234
    assert settings.kafka.topics.alerts == "my-alerts"


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    assert load_settings(config=written(tmp_path / "a.yml", ""), environ={}) == Settings()


def test_unknown_keys_are_named_with_their_source_and_the_nearest_key(tmp_path: Path) -> None:
    file = written(tmp_path / "s.yaml", "stroe: {url: x}\nkafka: {broker: 'a:1', zzz: 1}\n")
    found = problems({"kafka": {"gruop": "g"}}, {"FLOODWATCH_KAFKA__GROOP": "g"}, file)
    assert f"stroe (from {file}): there is no such setting; did you mean 'store'?" in found
    assert f"kafka.broker (from {file}): there is no such setting; did you mean 'brokers'?" in found
    assert any(line.startswith(f"kafka.zzz (from {file})") and "group" in line for line in found)
    assert any("kafka.gruop (from the command line)" in line for line in found)
    assert any("FLOODWATCH_KAFKA__GROOP (from the environment)" in line for line in found)
    assert len(found) == 5


def test_wrong_values_are_named_with_their_source_and_what_is_allowed(tmp_path: Path) -> None:
    file = written(tmp_path / "s.yaml", "metrics: {port: 99999}\nrunner: 5\n")
    found = problems(
        {"kafka": {"chunk_records": 0}}, {"FLOODWATCH_KAFKA__BROKERS": "nowhere"}, file
    )
    text = "\n".join(found)
    assert f"metrics.port (from {file}): 99999: input should be less than or equal to 65535" in text
    assert f"runner (from {file}): 5: this is a section with the keys partitions, max_users" in text
    assert "kafka.chunk_records (from the command line): 0: input should be greater" in text
    assert "FLOODWATCH_KAFKA__BROKERS (from the environment): 'nowhere'" in text
    assert "host:port" in text
    assert len(found) == 4


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("FLOODWATCH_PAKC", "FLOODWATCH_PACK"),
        ("FLOODWATCH_METRICS_PORT", "FLOODWATCH_METRICS__PORT"),
        ("FLOODWATCH_KAFKAA__GROUP", "FLOODWATCH_KAFKA__GROUP"),
    ],
)
def test_a_misspelt_variable_is_refused_with_the_right_one(variable: str, hint: str) -> None:
    (line,) = problems(environ={variable: "1"})
    assert variable in line
    assert f"did you mean '{hint}'?" in line


def test_variables_of_kubernetes_and_of_the_tests_are_left_alone() -> None:
    environ = {
        "FLOODWATCH_SERVICE_HOST": "10.0.0.1",
        "FLOODWATCH_METRICS_PORT": "tcp://10.0.0.1:80",
        "FLOODWATCH_PORT_9464_TCP": "tcp://10.0.0.1:9464",
        "FLOODWATCH_TEST_KAFKA": "127.0.0.1:9092",
        "FLOODWATCH_REQUIRE": "all",
        "FLOODWATCH_DATA": "somewhere",
        "OTHER__THING": "1",
    }
    assert load_settings(environ=environ) == Settings()


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("s.json", "{}", "ends in .yaml, .yml or .toml"),
        ("s.yaml", "a: [", "line 1"),
        ("s.toml", "a =\nb = 1\n", "line 1"),
        ("s.yaml", "- a\n- b\n", "not list"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_by_name(
    tmp_path: Path, name: str, text: str, said: str
) -> None:
    file = written(tmp_path / name, text)
    (line,) = problems(config=file)
    assert line.startswith(str(file))
    assert said in line


def test_a_missing_file_and_a_section_that_is_no_json_are_refused(tmp_path: Path) -> None:
    (line,) = problems(config=tmp_path / "absent.yaml")
    assert "no such configuration file" in line
    (line,) = problems(environ={"FLOODWATCH_KAFKA": "{"})
    assert "from the environment" in line
    assert "kafka" in line


def test_defaults_are_those_of_the_parts_they_configure() -> None:
    kafka, worker = Settings().kafka, WorkerSettings()
    assert tuple(kafka.brokers.split(",")) == worker.brokers
    assert kafka.group == worker.group
    assert kafka.session_timeout_s == worker.session_timeout_s
    assert kafka.chunk_records == worker.max_chunk_records
    assert kafka.merge_wait_ms == worker.merge_wait_ms
    assert TopicNames(**kafka.topics.model_dump()) == TopicNames()
    assert Settings().runner.max_users == DEFAULT_MAX_USERS


def test_every_key_is_documented_with_its_variable_and_default() -> None:
    """Each key has a row in docs/configuration.md, and no other key has one."""
    rows = dict(
        re.findall(r"^\| `([a-z_.]+)` \| (.*) \|$", DOCUMENT.read_text("utf-8"), re.MULTILINE)
    )
    expected = {}
    for path, field in setting_keys():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            continue
        default = str(field.default) if field.default != "" else "(empty)"
        expected[".".join(path)] = f"`{environment_name(path)}` | {default} | {field.description}"
    assert rows == expected
