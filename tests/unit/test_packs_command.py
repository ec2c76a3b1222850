"""``floodwatch rules``: what it prints and how it ends."""

from __future__ import annotations

import re
from pathlib import Path
from shutil import copytree

import pytest
from typer.testing import CliRunner

import detectors
from detectors.events import COLUMNS
from monitor.rules_command import app

DEFAULT = Path(detectors.__file__).parent / "packs" / "default"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.setenv("COLUMNS", "160")
    return CliRunner()


def test_check_shows_every_rule_and_passes_the_default_pack(run: CliRunner) -> None:
    result = run.invoke(app, ["check"])
    assert result.exit_code == 0
    assert re.search(
        r"generation-burst\W+medium\W+live\W+throttle generation\W+4 of 4", result.output
    )
    assert re.search(r"minor-safety\W+critical\W+live\W+block generation", result.output)
    assert re.search(r"default [0-9a-f]{16}: \d+ rules, (\d+) of \1 cases passed", result.output)


def test_check_names_file_line_and_values_of_a_failed_case(run: CliRunner, tmp_path: Path) -> None:
    pack = tmp_path / "pack"
    copytree(DEFAULT, pack)
    rules = pack / "rules.yaml"
    text = rules.read_text().replace("generations_1m >= 20", "generations_1m >= 200")
    rules.write_text(text)
    line = next(n for n, row in enumerate(text.splitlines(), 1) if "forty generations in" in row)
    result = run.invoke(app, ["check", str(pack)])
    assert result.exit_code == 1
    expected = f"{rules}:{line}: rules[0].cases[0]: generation-burst: case 'forty generations"
    assert expected in result.output
    assert "did not fire, closest miss: generations_1m 40 >= 200" in result.output
    assert "3 of 4" in result.output


def test_check_reports_what_cannot_be_loaded(run: CliRunner, tmp_path: Path) -> None:
    pack = tmp_path / "pack"
    copytree(DEFAULT, pack)
    rules = pack / "rules.yaml"
    rules.write_text(rules.read_text().replace("severity: medium", "severity: meduim", 1))
    result = run.invoke(app, ["check", str(pack)])
    assert result.exit_code == 1
    assert "'meduim' is not one of" in result.stderr
    assert "did you mean 'medium'?" in result.stderr
    assert "Traceback" not in result.output


def test_columns_lists_what_sql_can_use_and_what_it_means(run: CliRunner) -> None:
    result = run.invoke(app, ["columns"])
    assert result.exit_code == 0
    for column in COLUMNS:
        assert f" {column.name} " in result.output
    assert re.search(r"generation_gap_cv_1h\W+number\W+feature\W+Coefficient", result.output)
    assert re.search(r"over_credits_per_day\W+true/false\W+limits\W+Over", result.output)
    assert re.search(r"is_own\W+true/false\W+derived\W+The user did this", result.output)
    assert re.search(r"generations_1m\W+number\W+feature\W+Generations asked for", result.output)
