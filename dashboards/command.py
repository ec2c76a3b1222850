"""``floodwatch dashboards``: pictures of the dashboards without a Grafana."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from importlib import import_module, resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from sqlalchemy import create_engine

if TYPE_CHECKING:
    from dashboards.preview.answers import Answers

__all__ = ["app", "dashboard_names", "read_dashboard"]

_MISSING: Final = (
    "error: drawing needs the extra “dashboards”: python -m pip install 'floodwatch[dashboards]'"
)

app: Final = typer.Typer(
    no_args_is_help=True, help="Draw the dashboards from real answers, where there is no Grafana."
)


@app.callback()
def _dashboards() -> None:
    """Draw the dashboards from real answers, where there is no Grafana."""


@app.command()
def preview(
    prometheus: Annotated[
        str, typer.Option(help="URL of a Prometheus that scrapes Floodwatch.")
    ] = "http://127.0.0.1:9090",
    store: Annotated[
        str, typer.Option(help="SQLAlchemy URL of the store, for the panels that ask it.")
    ] = "",
    minutes: Annotated[float, typer.Option(min=0.5, help="Length of the time range.")] = 60.0,
    until: Annotated[
        float | None, typer.Option(help="End of the time range, Unix seconds. [default: now]")
    ] = None,
    scrape_s: Annotated[
        float, typer.Option(min=0.1, help="How often Prometheus scrapes, s.")
    ] = 15.0,
    out: Annotated[Path, typer.Option(help="Folder of the pictures.")] = Path("build/dashboards"),
    only: Annotated[list[str] | None, typer.Option(help="A dashboard; again for more.")] = None,
) -> None:
    """Draw each dashboard to a PNG: its own grid, queries, units, thresholds and colours."""
    try:
        answers_module = import_module("dashboards.preview.answers")
        page = import_module("dashboards.preview.page")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in {"matplotlib", "PIL"}:
            raise
        typer.echo(_MISSING, err=True)
        raise typer.Exit(1) from error
    end_s = time.time() if until is None else until
    shown = answers_module.TimeRange(end_s - 60 * minutes, end_s, scrape_s)
    engine = create_engine(store) if store else None
    out.mkdir(parents=True, exist_ok=True)
    try:
        for name in only or dashboard_names():
            document = read_dashboard(name)
            answers = answers_module.Answers(prometheus, engine, shown)
            answers = answers_module.with_choices(answers, document)
            _draw(page.draw_page, document, answers, out / f"dashboard-{name}.png")
    except answers_module.PreviewError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    finally:
        if engine is not None:
            engine.dispose()


def dashboard_names() -> list[str]:
    """The dashboards there are, by the names of their files."""
    folder = resources.files("dashboards") / "grafana"
    return sorted(entry.name.removesuffix(".json") for entry in folder.iterdir())


def read_dashboard(name: str) -> Mapping[str, Any]:
    """A dashboard as Grafana is given it."""
    path = resources.files("dashboards") / "grafana" / f"{name}.json"
    document: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def _draw(draw: Any, document: Mapping[str, Any], answers: Answers, path: Path) -> None:  # noqa: ANN401 - loaded late
    draw(document, answers, path)
    typer.echo(f"{path}  {path.stat().st_size / 1_000:.0f} kB")
