"""The files for containers, as far as can be said without an engine for containers.

That they are well-formed is checked against the published schema and by a linter, what they say
against our own code.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

import jsonschema
import pytest
import yaml

from dashboards.rules.liveness import WORKER_JOB
from dashboards.rules.store import STORE_JOB
from monitor.cli import main
from monitor.config import environment_name, setting_keys
from monitor.settings_sources import load_settings
from tests.support.components import require

ROOT: Final = Path(__file__).resolve().parents[2]
COMPOSE: Final = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: Final[dict[str, Any]] = COMPOSE["services"]
ONCE: Final = {"topics", "simulator"}
RUN_AS_ROOT: Final = {"kafka", "postgres"}
"""Their entry points drop to a user of their own; they change the owner of their folders first."""


def published() -> Iterator[tuple[str, str]]:
    for name, service in SERVICES.items():
        for port in service.get("ports", ()):
            yield name, port


def test_the_file_is_what_the_schema_says() -> None:
    """The Compose specification, as check-jsonschema brings it."""
    brought = "check_jsonschema/builtin_schemas/vendor/compose-spec.json"
    file = Path(str(distribution("check-jsonschema").locate_file(brought)))
    jsonschema.validate(COMPOSE, json.loads(file.read_text()))


def test_the_image_is_built_as_a_linter_wants_it() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    checked = subprocess.run(
        [linter, str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_image_is_pinned_built_in_stages_and_runs_as_nobody() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert re.search(r"^ARG PYTHON=\d+\.\d+\.\d+-slim-[a-z]+$", text, re.MULTILINE)
    assert all(stage.startswith("python:${PYTHON}") for stage in text.split("\nFROM ")[1:])
    lines = text.splitlines()
    assert sum(line.startswith("FROM ") for line in lines) == 2
    (user,) = (line.split()[1] for line in lines if line.startswith("USER "))
    assert user.partition(":")[0] not in {"0", "root"}
    copied = {line.split()[1] for line in lines if line.startswith("COPY ")}
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for name in copied - {"--from=build"}:
        assert f"!{name}" in ignored or f"!{name}/" in ignored or name.startswith("requirements/")


def test_nothing_listens_beyond_this_machine() -> None:
    ports = dict(published())
    assert set(ports) == {"kafka", "prometheus", "alertmanager", "grafana"}
    assert all(port.startswith("127.0.0.1:") for _, port in published()), ports


def test_it_runs_the_kafka_that_the_tests_run() -> None:
    pom = ElementTree.parse(ROOT / "tests" / "kafka" / "pom.xml")
    namespace = {"pom": "http://maven.apache.org/POM/4.0.0"}
    version = pom.findtext("pom:properties/pom:kafka.version", "", namespace)
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{version}"


def test_workers_can_be_scaled() -> None:
    """`--scale worker=2` fails where a name or a port of the host is fixed."""
    assert not {"container_name", "ports"} & set(SERVICES["worker"])


def test_what_is_waited_for_says_when_it_is_ready() -> None:
    for name, service in SERVICES.items():
        for other, needs in service.get("depends_on", {}).items():
            if needs["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[other], f"{name} waits for {other}"


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_pinned_bounded_and_watched(name: str) -> None:
    service = SERVICES[name]
    image = service["image"]
    tag = image.rpartition(":")[2]
    assert image == "floodwatch:dev" or any(digit.isdigit() for digit in tag), image
    limits = service["deploy"]["resources"]["limits"]
    assert {"cpus", "memory"} <= set(limits)
    assert "no-new-privileges:true" in service["security_opt"]
    assert service["cap_drop"] == ["ALL"] if name not in RUN_AS_ROOT else True
    assert ("healthcheck" in service) == (name not in ONCE)
    assert service["logging"]["options"]["max-size"]


def test_secrets_are_files_that_make_makes() -> None:
    """No password is in the file itself, and each service sees only those it needs."""
    names = set(COMPOSE["secrets"])
    (made,) = (
        line
        for line in (ROOT / "Makefile").read_text().splitlines()
        if "for name in" in line and "password" in line
    )
    assert names == set(made.partition(" in ")[2].partition(";")[0].split())
    assert {Path(secret["file"]).parent.name for secret in COMPOSE["secrets"].values()} == {
        "secrets"
    }
    assert "/secrets/" in (ROOT / ".gitignore").read_text().splitlines()
    for name, service in SERVICES.items():
        given = dict(service.get("environment", {}))
        assert not [key for key in given if "PASSWORD" in key and "FILE" not in key], name


def test_what_is_mounted_is_there() -> None:
    volumes = set(COMPOSE["volumes"])
    for name, service in SERVICES.items():
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            if source.startswith("./"):
                assert (ROOT / source).exists(), f"{name}: {source}"
                assert volume.endswith(":ro"), f"{name}: {source}"
            else:
                assert source in volumes or source.startswith("/"), f"{name}: {source}"


@pytest.mark.parametrize("name", ["topics", "worker", "store", "simulator"])
def test_our_commands_and_settings_exist(name: str) -> None:
    service = SERVICES[name]
    known = {environment_name(path) for path, _ in setting_keys()}
    given = {key: str(value) for key, value in service["environment"].items()}
    assert set(given) <= known
    settings = load_settings({}, environ=given)
    assert settings.kafka.brokers == "kafka:19092"
    with pytest.raises(SystemExit) as ended:
        main([*map(str, service["command"]), "--help"])
    assert ended.value.code == 0


def test_prometheus_scrapes_what_the_rules_ask_for() -> None:
    file = ROOT / "dashboards" / "prometheus" / "prometheus.yml"
    jobs = {job["job_name"]: job for job in yaml.safe_load(file.read_text())["scrape_configs"]}
    assert {WORKER_JOB, STORE_JOB} <= set(jobs)
    (worker,) = jobs[WORKER_JOB]["dns_sd_configs"]
    assert worker["names"] == ["worker"]
    assert str(worker["port"]) in SERVICES["worker"]["expose"]
    ((store,),) = (target["targets"] for target in jobs[STORE_JOB]["static_configs"])
    assert store == f"store:{SERVICES['store']['expose'][0]}"


def test_the_routing_example_has_the_routes_of_the_file_in_use() -> None:
    folder = ROOT / "dashboards" / "alertmanager"
    used, example = (
        yaml.safe_load((folder / name).read_text())
        for name in ("alertmanager.yml", "routing-example.yml")
    )
    assert used["route"] == example["route"]
    assert used["inhibit_rules"] == example["inhibit_rules"]
    assert [one["name"] for one in used["receivers"]] == [
        one["name"] for one in example["receivers"]
    ]


@pytest.mark.parametrize("name", ["alertmanager.yml", "routing-example.yml"])
def test_alertmanager_takes_its_configuration(name: str) -> None:
    require("alertmanager")
    file = ROOT / "dashboards" / "alertmanager" / name
    checked = subprocess.run(
        ["amtool", "check-config", file], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
