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

import pytest
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


@pytest.mark.parametrize("name", ["product", "dev", "bench", "build"])
def test_a_lock_has_all_that_is_asked_for(name: str, project: dict[str, Any]) -> None:
    """In a version that fits, for any Python; `make lock` mends it."""
    wanted = list(project["build-system"]["requires"])
    if name != "build":
        wanted = [*project["project"]["dependencies"], *(wanted if name != "product" else [])]
        wanted += _extra(project, name)
    pinned = _pinned(name)
    for requirement in map(Requirement, wanted):
        assert requirement.name in pinned, requirement
        assert all(requirement.specifier.contains(v) for v in pinned[requirement.name]), requirement


@pytest.mark.parametrize(
    ("folders", "extras"),
    [
        (("detectors", "monitor"), ()),
        (("dashboards",), ("dashboards",)),
        (("tests", "tools"), ("dev",)),
        (("bench",), ("bench",)),
    ],
)
def test_what_is_imported_is_asked_for(
    folders: tuple[str, ...], extras: tuple[str, ...], project: dict[str, Any]
) -> None:
    """By pyproject.toml itself: what comes with another package may go with its next version."""
    wanted = list(project["project"]["dependencies"])
    for extra in extras:
        wanted += _extra(project, extra)
    asked = {canonicalize_name(Requirement(text).name) for text in wanted}
    ours = {"bench", "dashboards", "detectors", "monitor", "tests", "tools"}
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


def _extra(project: dict[str, Any], name: str) -> list[str]:
    """What an extra asks for; where it names another of ours, what that one asks for."""
    extras: dict[str, list[str]] = project["project"]["optional-dependencies"]
    found: list[str] = []
    for text in extras.get(name, []):
        inner = re.fullmatch(r"floodwatch\[(\w+)\]", text)
        found += extras[inner[1]] if inner else [text]
    return found


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
