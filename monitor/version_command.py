"""``floodwatch version``."""

from __future__ import annotations

import platform

import typer

from monitor.packs import load_pack
from monitor.version import program_version

__all__ = ["version"]


def version() -> None:
    """Print the versions of the program, of its default pack and of Python."""
    pack = load_pack("default")
    typer.echo(
        f"floodwatch {program_version()}, pack {pack.name} {pack.version}, "
        f"Python {platform.python_version()}"
    )
