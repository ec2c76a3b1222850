"""Real components that some tests need, and what happens where one is missing.

A missing component skips the test, with the reason and the command that would bring it. Where
``FLOODWATCH_REQUIRE`` is ``all``, or lists the component (``kafka,data``), the test fails
instead: continuous integration must not pass by skipping.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

import pytest

from tests.kafka.jars import cache_folder
from tests.postgres.server import binaries

__all__ = ["COMPONENTS", "Component", "data_folder", "on_path", "require"]

_JAVA_LEAST: Final = 17
_REPOSITORY: Final = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Component:
    """Something outside of Python that tests run against.

    ``problem`` says what is missing, or None when all is there; ``remedy`` what would bring it.
    """

    name: str
    problem: Callable[[], str | None]
    remedy: str


def require(name: str) -> None:
    """Skip the calling test, or fail it (see the module), unless the component is there."""
    component = COMPONENTS[name]
    problem = component.problem()
    if problem is None:
        return
    reason = f"{name}: {problem}; to bring it: {component.remedy}"
    required = {part.strip() for part in os.environ.get("FLOODWATCH_REQUIRE", "").split(",")}
    if required & {"all", name}:
        pytest.fail(f"{reason} (FLOODWATCH_REQUIRE asks for it)", pytrace=False)
    pytest.skip(reason)


def data_folder() -> Path:
    """The folder of real data: ``FLOODWATCH_DATA``, by default beside the repository."""
    folder = os.environ.get("FLOODWATCH_DATA")
    return Path(folder) if folder else _REPOSITORY.parent / "shared" / "data"


def on_path(*programs: str) -> Callable[[], str | None]:
    """A check that every program is on the PATH."""

    def problem() -> str | None:
        missing = [program for program in programs if shutil.which(program) is None]
        return f"not on the PATH: {', '.join(missing)}" if missing else None

    return problem


def _kafka_problem() -> str | None:
    if os.environ.get("FLOODWATCH_TEST_KAFKA"):
        return None
    java = shutil.which("java")
    if java is None:
        return "Java is not installed"
    result = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)
    version = re.search(r'version "(\d+)', result.stderr)
    if version is None or int(version[1]) < _JAVA_LEAST:
        return f"Java {_JAVA_LEAST} or newer is needed, there is: {result.stderr.strip()[:80]}"
    if not cache_folder().is_dir() and shutil.which("mvn") is None:
        return f"Maven is not installed and the jars are not in {cache_folder()}"
    return None


def _postgres_problem() -> str | None:
    return None if binaries() else "PostgreSQL (initdb, postgres) is not installed"


def _data_problem() -> str | None:
    folder = data_folder()
    return None if folder.is_dir() else f"there is no folder {folder}"


COMPONENTS: Final[Mapping[str, Component]] = MappingProxyType(
    {
        component.name: component
        for component in (
            Component(
                "kafka",
                _kafka_problem,
                "apt-get install openjdk-17-jre-headless maven, "
                "or set FLOODWATCH_TEST_KAFKA=host:port to a running broker",
            ),
            Component("postgres", _postgres_problem, "apt-get install postgresql"),
            Component(
                "prometheus", on_path("prometheus", "promtool"), "apt-get install prometheus"
            ),
            Component(
                "alertmanager",
                on_path("prometheus-alertmanager", "amtool"),
                "apt-get install prometheus-alertmanager",
            ),
            Component(
                "data",
                _data_problem,
                "set FLOODWATCH_DATA to the folder of the real data sets",
            ),
        )
    }
)
