"""``floodwatch doctor`` against the real machine, and against broken ones."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest

from monitor.cli import main
from monitor.doctor import Check, examine
from monitor.settings_sources import load_settings


def examined(
    tmp_path: Path, environ: dict[str, str] | None = None, **flags: object
) -> dict[str, Check]:
    """Checks by name, of settings that do not touch the working folder."""
    settings = load_settings(
        {
            "kafka": {"brokers": "127.0.0.1:1"},
            "metrics": {"port": 0},
            "demo": {"out": tmp_path},
            **flags,
        },
        environ={},
    )
    return {check.name: check for check in examine(settings, environ or {})}


def program(folder: Path, name: str, says: str) -> None:
    """A program on the PATH that answers as another version would."""
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{says}'\n", encoding="utf-8")
    path.chmod(0o755)


def test_everything_the_demo_needs_is_here(tmp_path: Path) -> None:
    checks = examined(tmp_path)
    assert {name: checks[name].state for name in ("program", "pack", "metrics", "results")} == {
        "program": "ok",
        "pack": "ok",
        "metrics": "ok",
        "results": "ok",
    }
    assert "all cases pass" in checks["pack"].detail
    assert list(tmp_path.iterdir()) == []


def test_a_broker_that_is_not_there_is_missing_with_three_ways_to_get_one(tmp_path: Path) -> None:
    check = examined(tmp_path)["kafka"]
    assert check.state == "missing"
    assert "127.0.0.1:1: Connection refused" in check.detail
    for way in ("make kafka", "docker compose", "FLOODWATCH_KAFKA__BROKERS"):
        assert way in check.remedy


def test_missing_and_old_programs_are_told_with_the_package_that_brings_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    program(folder, "java", 'openjdk version "11.0.2" 2019-01-15')
    monkeypatch.setenv("PATH", str(folder))
    checks = examined(tmp_path)
    assert checks["java"].state == "missing"
    assert "17 or newer is needed" in checks["java"].detail
    assert "openjdk-17" in checks["java"].remedy
    assert checks["mvn"].detail == "not on the PATH"
    assert "apt-get install maven" in checks["mvn"].remedy
    program(folder, "java", 'openjdk version "21.0.1" 2023-10-17')
    assert examined(tmp_path)["java"].state == "ok"


def test_the_folder_of_real_data_is_looked_for_where_the_variable_says(tmp_path: Path) -> None:
    assert "FLOODWATCH_DATA" in examined(tmp_path)["data"].remedy
    absent = {"FLOODWATCH_DATA": str(tmp_path / "absent")}
    assert "there is no folder" in examined(tmp_path, absent)["data"].detail
    assert examined(tmp_path, {"FLOODWATCH_DATA": str(tmp_path)})["data"].state == "ok"


def test_a_taken_port_is_missing_with_the_flag_that_helps(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        check = examined(tmp_path, metrics={"port": port})["metrics"]
    assert check.state == "missing"
    assert f"127.0.0.1:{port}" in check.detail
    assert "--metrics-port" in check.remedy


def test_a_broken_pack_and_a_folder_that_cannot_be_written_are_wrong(tmp_path: Path) -> None:
    pack = tmp_path / "pack"
    pack.mkdir()
    (tmp_path / "file").touch()
    checks = examined(tmp_path, pack=str(pack), demo={"out": tmp_path / "file"})
    assert checks["pack"].state == "wrong"
    assert "features.yaml" in checks["pack"].detail
    assert checks["results"].state == "wrong"


@pytest.mark.parametrize(("pack", "code"), [("default", 0), ("absent-pack", 1)])
def test_the_command_fails_only_for_what_everything_needs(
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    pack: str,
    code: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("FLOODWATCH_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("FLOODWATCH_PACK", pack)
    monkeypatch.setenv("FLOODWATCH_KAFKA__BROKERS", "127.0.0.1:1")
    assert ended(["doctor"]) == code
    out = capfd.readouterr().out
    assert "missing kafka" in out
    assert ("wrong   pack" in out) is bool(code)


def ended(arguments: Sequence[str]) -> int:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    return int(caught.value.code or 0)


def test_without_a_champion_it_is_said_that_anomaly_rules_are_silent(tmp_path: Path) -> None:
    check = examined(tmp_path)["models"]
    assert (check.state, "stay silent" in check.detail) == ("missing", True)
    assert "floodwatch train" in check.remedy
    empty = examined(tmp_path, models={"registry": str(tmp_path / "models")})["models"]
    assert (empty.state, "nobody is champion" in empty.detail) == ("missing", True)
    registry = tmp_path / "damaged"
    registry.mkdir()
    (registry / "roles.json").write_text("{", encoding="utf-8")
    broken = examined(tmp_path, models={"registry": str(registry)})["models"]
    assert (broken.state, "cannot be read" in broken.detail) == ("wrong", True)
