"""Options that several commands have, with one wording."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

__all__ = ["ConfigOption", "MetricsPortOption", "PackOption"]

ConfigOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(help="Configuration file, YAML or TOML. [default: $FLOODWATCH_CONFIG]"),
]
PackOption: TypeAlias = Annotated[
    str | None, typer.Option(help="A built-in pack or the folder of one. [default: default]")
]
MetricsPortOption: TypeAlias = Annotated[
    int | None,
    typer.Option(help="Port of /metrics, /healthz and /readyz; 0 for a free one. [default: 9464]"),
]
