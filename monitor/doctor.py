"""``floodwatch doctor``: what is missing here, and how to get it."""

from __future__ import annotations

import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import typer
from rich.console import Console
from rich.text import Text

from detectors.compiled import compile_pack
from detectors.errors import PackError
from monitor.failures import FAILURE, USAGE, stop_on
from monitor.health import port_is_free
from monitor.kafka.errors import TopicsError
from monitor.kafka.topics import TopicNames, require_topics
from monitor.models.errors import ModelError
from monitor.models.opening import open_models
from monitor.options import ConfigOption
from monitor.packs import check_pack, load_pack
from monitor.settings_sources import ConfigurationError, load_settings
from monitor.version import program_version

if TYPE_CHECKING:
    from monitor.config import Settings

__all__ = ["Check", "doctor", "examine"]

State: TypeAlias = Literal["ok", "missing", "wrong"]

_DATA_VARIABLE: Final = "FLOODWATCH_DATA"
_JAVA_LEAST: Final = 17
_CONNECT_S: Final = 3.0
_PROGRAM_S: Final = 20.0
_STYLES: Final[dict[State, str]] = {"ok": "green", "missing": "yellow", "wrong": "bold red"}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at. ``missing`` matters only to who wants ``needed_for``."""

    name: str
    state: State
    detail: str
    needed_for: str
    remedy: str = ""


def doctor(config: ConfigOption = None) -> None:
    """Look at what Floodwatch needs, and say what is missing and how to get it.

    Ends with 1 when the demo and replay could not run; what only Kafka needs is reported.
    """
    with stop_on(ConfigurationError, exit_code=USAGE):
        settings = load_settings(config=config, environ=os.environ)
    console = Console()
    checks = list(examine(settings, os.environ))
    for check in checks:
        console.print(
            Text.assemble(
                (f"{check.state:<8}", _STYLES[check.state]), (f"{check.name:<12}", "bold")
            ),
            Text(check.detail),
            soft_wrap=True,
        )
        if check.state != "ok":
            console.print(Text(f"{'':<20} for {check.needed_for}: {check.remedy}"), soft_wrap=True)
    if any(check.state == "wrong" for check in checks):
        raise typer.Exit(FAILURE)


def examine(settings: Settings, environ: Mapping[str, str]) -> Iterator[Check]:
    """Every check, one after the other."""
    yield _python()
    yield _pack(settings)
    yield _models(settings)
    yield _metrics_port(settings)
    yield _results(settings)
    yield _java()
    yield _maven()
    yield _data(environ)
    yield from _broker(settings)


def _python() -> Check:
    detail = f"Floodwatch {program_version()} on Python {platform.python_version()}, {sys.platform}"
    return Check("program", "ok", detail, "everything")


def _pack(settings: Settings) -> Check:
    try:
        pack = load_pack(settings.pack)
    except PackError as error:
        remedy = f"mend it, then: floodwatch rules check {settings.pack}"
        return Check("pack", "wrong", str(error), "everything", remedy)
    failed = [result for result in check_pack(pack) if not result.passed]
    detail = f"{pack.name} {pack.version}: {len(pack.features)} features, {len(pack.rules)} rules"
    if failed:
        names = ", ".join(f"{result.rule_id} ({result.case})" for result in failed)
        remedy = f"floodwatch rules check {settings.pack}"
        return Check("pack", "wrong", f"{detail}; cases fail: {names}", "everything", remedy)
    return Check("pack", "ok", f"{detail}, all cases pass", "everything")


def _models(settings: Settings) -> Check:
    """The registry of the settings; the demo has a model of its own."""
    where, purpose = settings.models, "anomaly scores of replay and worker"
    remedy = "floodwatch train, floodwatch model promote, then FLOODWATCH_MODELS__REGISTRY"
    if not where.registry:
        detail = "no registry is set: rules on anomaly columns stay silent"
        return Check("models", "missing", detail, purpose, remedy)
    try:
        pack = compile_pack(load_pack(settings.pack))
        name = open_models(where.registry, where.public_key, pack).current.name
    except PackError as error:
        return Check("models", "missing", str(error), purpose, "mend the pack first")
    except ModelError as error:
        return Check("models", "wrong", str(error), purpose, "floodwatch model rollback")
    if not name:
        return Check(
            "models", "missing", f"nobody is champion in {where.registry}", purpose, remedy
        )
    return Check("models", "ok", f"{name} of {where.registry}", purpose)


def _metrics_port(settings: Settings) -> Check:
    host, port = settings.metrics.host, settings.metrics.port
    if port_is_free(host, port):
        return Check("metrics", "ok", f"{host}:{port} is free", "metrics")
    return Check(
        "metrics",
        "missing",
        f"{host}:{port} is taken or not ours",
        "metrics",
        "--metrics-port 0 takes a free one, --metrics-port N another (the demo does so itself)",
    )


def _results(settings: Settings) -> Check:
    folder = settings.demo.out
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return Check(
            "results",
            "wrong",
            f"{folder} cannot be written: {error.strerror}",
            "the demo",
            "choose a folder with --out or FLOODWATCH_DEMO__OUT",
        )
    free_gb = shutil.disk_usage(folder).free / 1e9
    return Check("results", "ok", f"{folder} can be written, {free_gb:,.0f} GB free", "the demo")


def _java() -> Check:
    return _program(
        "java",
        ["java", "-version"],
        r'version "(\d+)',
        _JAVA_LEAST,
        "apt-get install openjdk-17-jre-headless (or any JRE 17 or newer)",
    )


def _maven() -> Check:
    return _program("mvn", ["mvn", "--version"], r"Apache Maven (\d+)", 3, "apt-get install maven")


def _data(environ: Mapping[str, str]) -> Check:
    """The folder of recorded traffic that some tests play."""
    needed_for, remedy = "tests on real traffic", f"set {_DATA_VARIABLE} to the folder of it"
    folder = environ.get(_DATA_VARIABLE)
    if not folder:
        return Check("data", "missing", f"{_DATA_VARIABLE} is not set", needed_for, remedy)
    if not Path(folder).is_dir():
        return Check("data", "missing", f"there is no folder {folder}", needed_for, remedy)
    return Check("data", "ok", folder, needed_for)


def _program(name: str, command: list[str], pattern: str, least: int, remedy: str) -> Check:
    needed_for = "a Kafka broker of your own (make kafka) and its tests"
    if shutil.which(name) is None:
        return Check(name, "missing", "not on the PATH", needed_for, remedy)
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_PROGRAM_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check(name, "missing", f"does not run: {error}", needed_for, remedy)
    said = result.stdout + result.stderr
    version = re.search(pattern, said)
    if version is None or int(version[1]) < least:
        first_line = said.strip().partition("\n")[0][:80]
        detail = f"{least} or newer is needed, there is: {first_line}"
        return Check(name, "missing", detail, needed_for, remedy)
    return Check(name, "ok", f"version {version[1]}", needed_for)


def _broker(settings: Settings) -> Iterator[Check]:
    """Whether a broker answers, and if so whether the topics are there."""
    brokers = settings.kafka.brokers.split(",")
    needed_for = "the worker"
    failures = [failure for broker in brokers if (failure := _connect(broker))]
    if len(failures) == len(brokers):
        remedy = "make kafka, docker compose up, or name yours: FLOODWATCH_KAFKA__BROKERS=host:port"
        yield Check("kafka", "missing", "; ".join(failures), needed_for, remedy)
        return
    yield Check("kafka", "ok", f"{settings.kafka.brokers} answers", needed_for)
    names = TopicNames(**settings.kafka.topics.model_dump())
    try:
        partitions = require_topics(tuple(brokers), names, settings.kafka.group)
    except TopicsError as error:
        yield Check("topics", "missing", str(error), needed_for, "floodwatch topics create")
        return
    yield Check("topics", "ok", f"all there, {partitions} partitions", needed_for)


def _connect(broker: str) -> str:
    """Why nothing can be reached at host:port; empty if something can."""
    host, _, port = broker.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=_CONNECT_S):
            return ""
    except OSError as error:
        return f"{broker}: {error.strerror or error}"
