"""Brings Kafka's jars: once from a Maven repository, from then on from a cache folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

__all__ = ["JarsError", "cache_folder", "kafka_jars"]

_POM: Final = Path(__file__).with_name("pom.xml")
_DOWNLOAD_DEADLINE_S: Final = 300


class JarsError(Exception):
    """Kafka's jars could not be fetched; the message holds what Maven said."""


def cache_folder() -> Path:
    """The folder that holds the jars of the pinned version, filled or not."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "floodwatch" / f"kafka-{_pinned_version()}"


def kafka_jars() -> Path:
    """The filled cache folder; fetches the jars (44 MB) first if they are not there.

    The folder appears whole or not at all, so processes may call this at the same time.
    Raises JarsError where Maven is missing or fails.
    """
    target = cache_folder()
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    # The temporary folder lies beside the target so that the rename stays on one file system.
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as temporary:
        jars = Path(temporary) / "jars"
        _download(jars)
        try:
            jars.rename(target)
        except OSError:
            if not target.is_dir():  # Otherwise another process was quicker: use its folder.
                raise
    return target


def _download(folder: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        message = (
            f"the jars of Apache Kafka are not in {cache_folder()} and Maven (mvn), "
            "which would bring them, is not installed"
        )
        raise JarsError(message)
    command = [maven, "-q", "-B", "-f", str(_POM)]
    command += ["dependency:copy-dependencies", f"-DoutputDirectory={folder}"]
    result = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_DOWNLOAD_DEADLINE_S,
        check=False,
    )
    if result.returncode != 0:
        raise JarsError(f"{' '.join(command)} failed:\n{result.stdout[-2000:]}")


def _pinned_version() -> str:
    namespace = {"pom": "http://maven.apache.org/POM/4.0.0"}
    version = ElementTree.parse(_POM).findtext("pom:properties/pom:kafka.version", "", namespace)
    if not version:
        raise JarsError(f"{_POM} has no property kafka.version")
    return version
