"""What is shipped, locked and started agrees with itself."""

from __future__ import annotations

import ast
import json
import os
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

import pytest
import yaml
from jsonschema import Draft202012Validator
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from monitor.wire.json_schema import write_schema
from tools.environment import uv_settings

ROOT: Final = Path(__file__).resolve().parents[2]

_PINNED: Final = re.compile(r"^([a-z0-9._-]+)==([^ ;]+)(?: ; [^\\]+)? \\$", re.MULTILINE)


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    """pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """docker-compose.yml, with its anchors resolved."""
    document: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
    return document


@pytest.mark.parametrize("name", ["product", "dev", "bench", "build"])
def test_a_lock_has_all_that_is_asked_for(name: str, project: dict[str, Any]) -> None:
    """In a version that fits, for any Python; `make lock` mends it."""
    wanted = list(project["build-system"]["requires"])
    if name != "build":
        wanted = [*project["project"]["dependencies"], *(wanted if name != "product" else [])]
        wanted += project["project"]["optional-dependencies"].get(name, [])
    pinned = _pinned(name)
    for requirement in map(Requirement, wanted):
        assert requirement.name in pinned, requirement
        assert all(requirement.specifier.contains(v) for v in pinned[requirement.name]), requirement


@pytest.mark.parametrize(
    ("folders", "extras"),
    [(("detectors", "monitor"), ()), (("tests", "tools"), ("dev",)), (("bench",), ("bench",))],
)
def test_what_is_imported_is_asked_for(
    folders: tuple[str, ...], extras: tuple[str, ...], project: dict[str, Any]
) -> None:
    """By pyproject.toml itself: what comes with another package may go with its next version."""
    wanted = list(project["project"]["dependencies"])
    for extra in extras:
        wanted += project["project"]["optional-dependencies"][extra]
    asked = {canonicalize_name(Requirement(text).name) for text in wanted}
    ours = {"bench", "detectors", "monitor", "tests", "tools"}
    names = set().union(*map(_imported_packages, folders)) - ours - sys.stdlib_module_names
    providers = metadata.packages_distributions()
    found = [
        name
        for name in names
        if asked.isdisjoint(map(canonicalize_name, providers.get(name, [name.replace("_", "-")])))
    ]
    assert not found


def test_tests_run_with_the_versions_that_ship() -> None:
    """What the product locks, the development environment locks too."""
    shipped, tested = _pinned("product"), _pinned("dev")
    assert {name: tested[name] for name in shipped} == shipped


@pytest.mark.parametrize("name", ["installer", "product", "dev", "bench", "build"])
def test_every_pin_has_hashes(name: str) -> None:
    """Nothing is installed that is not what was locked."""
    entries = re.split(r"\n(?=\S)", _lock_text(name))
    pins = [entry for entry in entries if not entry.startswith("#")]
    assert pins
    assert [pin for pin in pins if not re.search(r"--hash=sha256:[0-9a-f]{64}", pin)] == []


def test_entry_points_lead_to_what_exists() -> None:
    """The command, and the transport that Faust finds by the scheme of a URL."""
    points = metadata.distribution("floodwatch").entry_points
    assert {(point.group, point.name) for point in points} == {
        ("console_scripts", "floodwatch"),
        ("faust.transports", "floodwatch"),
    }
    assert all(callable(point.load()) for point in points)


def test_the_published_schema_is_that_of_the_code(tmp_path: Path) -> None:
    """`make schema` writes it anew."""
    published = (ROOT / "docs" / "schema" / "event.schema.json").read_text(encoding="utf-8")
    assert write_schema(tmp_path).read_text(encoding="utf-8") == published
    Draft202012Validator.check_schema(json.loads(published))


def test_the_compose_file_runs_the_kafka_that_the_tests_run(compose: dict[str, Any]) -> None:
    """One version, in tests/kafka/pom.xml and here."""
    pom = ElementTree.parse(ROOT / "tests" / "kafka" / "pom.xml")
    namespace = {"pom": "http://maven.apache.org/POM/4.0.0"}
    version = pom.findtext("pom:properties/pom:kafka.version", "", namespace)
    assert compose["services"]["kafka"]["image"] == f"apache/kafka:{version}"


def test_compose_publishes_on_the_loopback_only(compose: dict[str, Any]) -> None:
    """Nothing without authentication is reachable from another machine."""
    published = [
        port for service in compose["services"].values() for port in service.get("ports", [])
    ]
    assert published
    assert [port for port in published if not str(port).startswith("127.0.0.1:")] == []


def test_compose_bounds_every_service(compose: dict[str, Any]) -> None:
    """Processor and memory are limited, and what waits for a service knows when it is ready."""
    services = compose["services"]
    for name, service in services.items():
        limits = service["deploy"]["resources"]["limits"]
        assert set(limits) == {"cpus", "memory"}, name
        assert "no-new-privileges:true" in service["security_opt"], name
        for other, needs in service.get("depends_on", {}).items():
            if needs["condition"] == "service_healthy":
                assert "healthcheck" in services[other], f"{name} waits for {other}"


def test_compose_workers_can_be_scaled(compose: dict[str, Any]) -> None:
    """`--scale worker=2` fails where a name or a port of the host is fixed."""
    worker = compose["services"]["worker"]
    assert not {"container_name", "ports"} & set(worker)


def test_the_image_is_pinned_and_does_not_run_as_root() -> None:
    """The base image by its patch version, and a user of its own at the end."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert re.search(r"^ARG PYTHON=\d+\.\d+\.\d+-slim-[a-z]+$", text, re.MULTILINE)
    stages = text.split("\nFROM ")[1:]
    assert all(stage.startswith("python:${PYTHON}") for stage in stages)
    assert re.search(r"^USER [1-9]\d*", stages[-1], re.MULTILINE)


def test_ci_can_be_started() -> None:
    """It is called by its path."""
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_uv_uses_the_index_that_pip_is_configured_for() -> None:
    """The environment wins over pip's file, its section `install` over `global`."""
    config = (
        "global.index-url='https://mirror.example/simple'\n"
        "global.cert='/etc/corporate.pem'\n"
        "global.find-links='/a\\n/b'\n"
        "install.index-url='https://user:pa%20ss@install.example/simple'\n"
        ":env:.trusted-host='mirror.example'\n"
    )
    assert uv_settings(config, {}) == {
        "UV_DEFAULT_INDEX": "https://user:pa%20ss@install.example/simple",
        "UV_FIND_LINKS": "/a,/b",
        "UV_INSECURE_HOST": "mirror.example",
        "UV_SYSTEM_CERTS": "true",
        "SSL_CERT_FILE": "/etc/corporate.pem",
    }
    assert "SSL_CERT_FILE" not in uv_settings(config, {"SSL_CERT_FILE": "/etc/mine.pem"})


def _imported_packages(folder: str) -> set[str]:
    found: set[str] = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add((node.module or "").partition(".")[0])
    return found


def _pinned(name: str) -> dict[str, set[str]]:
    """The versions of each package: more than one where they differ by Python."""
    pinned: dict[str, set[str]] = {}
    for package, version in _PINNED.findall(_lock_text(name)):
        pinned.setdefault(package, set()).add(version)
    return pinned


def _lock_text(name: str) -> str:
    return (ROOT / "requirements" / f"{name}.lock").read_text(encoding="utf-8")
