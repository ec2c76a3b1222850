"""The five dashboards, as files for Grafana."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dashboards.frame import View
from dashboards.views.detection import detection
from dashboards.views.enforcement import enforcement
from dashboards.views.incidents import incidents
from dashboards.views.overview import overview
from dashboards.views.pipeline import pipeline

__all__ = ["dashboard_files", "views"]

_PREFIX: Final = "floodwatch-"


def views() -> tuple[View, ...]:
    """Every dashboard, in the order in which one goes from one to the next."""
    return overview(), incidents(), detection(), enforcement(), pipeline()


def dashboard_files() -> Iterator[tuple[Path, str]]:
    """The JSON that Grafana is provisioned with: path below the package, and text."""
    for view in views():
        text = json.dumps(view.build(), cls=JSONEncoder, indent=2, sort_keys=True)
        yield Path("grafana") / f"{view.uid.removeprefix(_PREFIX)}.json", text + "\n"
