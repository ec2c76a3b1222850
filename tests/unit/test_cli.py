"""The command line: quick help, every command there, errors for people, exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from monitor.cli import COMMANDS, command_group, main
from monitor.version import program_version

HEAVY = ("polars", "numba", "sqlalchemy", "faust", "kafka", "pydantic", "sklearn")


def run(capfd: pytest.CaptureFixture[str], arguments: Sequence[str]) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command line."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    out, error = capfd.readouterr()
    return int(ended.value.code or 0), out, error


def test_help_lists_every_command_and_imports_nothing_heavy() -> None:
    """``floodwatch --help`` answers at once: measured by what it imports, not by a clock."""
    code = (
        "import sys\n"
        "from monitor.cli import main\n"
        "try:\n    main(['--help'])\n"
        "except SystemExit as ended:\n    assert not ended.code\n"
        f"print('HEAVY', [name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert "HEAVY []" in result.stdout
    for name, command in COMMANDS.items():
        assert f"│ {name} " in result.stdout
        assert command.summary.split(".")[0][:40] in result.stdout


def test_the_module_can_be_run() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "monitor", "--version"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={**os.environ, "COLUMNS": "80"},
    )
    assert result.stdout == f"floodwatch {program_version()}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(capfd: pytest.CaptureFixture[str], name: str) -> None:
    code, out, _ = run(capfd, [name, "--help"])
    assert code == 0
    assert f"Usage: floodwatch {name}" in out


@pytest.mark.parametrize("name", COMMANDS)
def test_summaries_have_an_entry_in_the_document(name: str) -> None:
    document = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
    assert f"## floodwatch {name}" in document


def test_an_unknown_command_and_option_are_usage_errors_with_a_near_match(
    capfd: pytest.CaptureFixture[str],
) -> None:
    code, _, error = run(capfd, ["replya"])
    assert code == 2
    assert "Did you mean 'replay'?" in error
    code, _, error = run(capfd, ["demo", "--minuts", "1"])
    assert code == 2
    assert "--minutes" in error


def test_groups_are_made_anew_and_share_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    first = command_group()
    run(capfd, ["rules", "--help"])
    assert first.commands["rules"] is not command_group().commands["rules"]


@pytest.mark.parametrize(
    ("arguments", "environ", "said"),
    [
        (["demo", "--users", "5"], {}, "demo.users (from the command line): 5"),
        (["demo"], {"FLOODWATCH_DEMO__SPED": "2"}, "FLOODWATCH_DEMO__SPED (from the environment)"),
        (["worker", "--brokers", "nowhere"], {}, "kafka.brokers (from the command line)"),
        (["worker", "--config", "absent.yaml"], {}, "absent.yaml: there is no such"),
        (["topics", "--config", "absent.yaml", "list"], {}, "absent.yaml: there is no such"),
        (["doctor"], {"FLOODWATCH_CONFIG": "absent.yaml"}, "absent.yaml: there is no such"),
        (["demo", "--pack", "defalt"], {}, "did you mean 'default'?"),
        (["worker", "--pack", "defalt"], {}, "did you mean 'default'?"),
    ],
)
def test_wrong_settings_and_packs_end_with_2_and_a_message(
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: list[str],
    environ: dict[str, str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    code, _, error = run(capfd, arguments)
    assert code == 2
    assert said in error
    assert "Traceback" not in error


def test_a_worker_without_a_broker_ends_with_1_and_says_where_it_looked(
    capfd: pytest.CaptureFixture[str],
) -> None:
    code, _, error = run(
        capfd, ["worker", "--brokers", "127.0.0.1:1", "--metrics-port", "0", "--group", "g"]
    )
    assert code == 1
    assert "error: no Kafka broker answers at 127.0.0.1:1" in error
    assert "Traceback" not in error


def test_the_topics_are_named_as_configured(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('[kafka.topics]\nalerts = "eu-alerts"\n', encoding="utf-8")
    code, out, _ = run(capfd, ["topics", "--config", str(file), "list"])
    assert code == 0
    assert "eu-alerts" in out
    assert "generation-events-dlq" in out


def test_the_version_names_the_pack(capfd: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capfd, ["version"])
    assert code == 0
    assert out.startswith(f"floodwatch {program_version()}, pack default ")
