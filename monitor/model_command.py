"""``floodwatch model``: the registry of anomaly models."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Column, Table

from detectors.anomaly import ScoringPlan
from detectors.compiled import compile_pack
from detectors.errors import PackError
from detectors.topology import Topology
from monitor.failures import USAGE, stop_on
from monitor.logs import LogError, open_log
from monitor.models.display import day, print_card
from monitor.models.errors import ModelError
from monitor.models.files import load_model
from monitor.models.opening import read_key
from monitor.models.registry import ROLES, Registry, Role
from monitor.models.rows import collect_rows
from monitor.options import ConfigOption
from monitor.packs import load_pack
from monitor.settings_sources import ConfigurationError, load_settings

if TYPE_CHECKING:
    from monitor.config import Settings

__all__ = ["app"]

app = typer.Typer(help="Keep anomaly models: list, show, compare, promote, roll back.")

RegistryOption = Annotated[
    str | None, typer.Option("--registry", help="Folder of the models. [default: models.registry]")
]
ModelArgument = Annotated[
    str, typer.Argument(help="The beginning of an id, or: champion, challenger.")
]


@app.command("list")
def list_models(registry: RegistryOption = None, config: ConfigOption = None) -> None:
    """List the models of the registry, those with the newest data first."""
    found, _ = _open(registry, config)
    table = Table(Column("model", no_wrap=True), "role", Column("data until", no_wrap=True))
    for name in ("rows", "wanted", "held out"):
        table.add_column(name, justify="right")
    table.add_column("signed")
    with stop_on(ModelError):
        roles = found.roles()
        for entry in found.entries():
            calibration = entry.card.calibration
            table.add_row(
                entry.model_id,
                " ".join(role for role in ROLES if roles.holder(role) == entry.model_id),
                day(entry.card.data.last_ms),
                f"{entry.card.data.rows:,}",
                f"{calibration.wanted_per_10000:g}",
                f"{calibration.held_out_per_10000:.2f}",
                "yes" if entry.signed else "no",
            )
    console = Console()
    console.print(table)
    console.print(f"{table.row_count} models in {found.folder}", highlight=False)


@app.command()
def show(
    model: ModelArgument, registry: RegistryOption = None, config: ConfigOption = None
) -> None:
    """Show the card of a model."""
    found, _ = _open(registry, config)
    with stop_on(ModelError):
        entry = found.entry(model)
    print_card(Console(), entry.model_id, entry.card)


@app.command()
def promote(
    model: Annotated[
        str, typer.Argument(help="A folder that train made, the beginning of an id, or challenger.")
    ],
    role: Annotated[Role, typer.Option("--as", help="What it becomes.")] = "champion",
    registry: RegistryOption = None,
    config: ConfigOption = None,
) -> None:
    """Make a model champion (its scores count) or challenger (it is scored beside).

    It is checked first, with the pack and the key of the settings. Running workers take it over
    within seconds, at a point that a crash replay will take it over at, too.
    """
    found, settings = _open(registry, config)
    with stop_on(PackError, exit_code=USAGE), stop_on(ModelError):
        given = Path(model)
        is_folder = model not in ROLES and given.is_dir() and (given / "card.json").is_file()
        identity = found.add(given) if is_folder else found.entry(model).model_id
        pack = compile_pack(load_pack(settings.pack))
        load_model(found.folder_of(identity), pack, read_key(settings.models.public_key))
        change = found.promote(identity, role)
    Console().print(
        f"{identity} is {role} now; before: {change.before or 'nobody'}", highlight=False
    )


@app.command()
def retire(
    role: Annotated[Role, typer.Argument(help="Whose role ends.")] = "challenger",
    registry: RegistryOption = None,
    config: ConfigOption = None,
) -> None:
    """Let nobody be challenger (or champion: then nothing is scored)."""
    found, _ = _open(registry, config)
    with stop_on(ModelError):
        change = found.promote(None, role)
    Console().print(f"nobody is {role} now; before: {change.before or 'nobody'}", highlight=False)


@app.command()
def rollback(registry: RegistryOption = None, config: ConfigOption = None) -> None:
    """Make that model champion which was it before."""
    found, _ = _open(registry, config)
    with stop_on(ModelError):
        change = found.rollback()
    Console().print(
        f"{change.after} is champion again; before: {change.before or 'nobody'}", highlight=False
    )


@app.command()
def compare(
    one: ModelArgument,
    other: ModelArgument,
    logs: Annotated[list[Path], typer.Option("--on", help="Logs to score with both.")],
    registry: RegistryOption = None,
    config: ConfigOption = None,
) -> None:
    """Score logs with two models of the same features: where do they alert, and who alone?"""
    found, settings = _open(registry, config)
    with stop_on(PackError, exit_code=USAGE), stop_on(ModelError, LogError):
        pack = compile_pack(load_pack(settings.pack))
        key = read_key(settings.models.public_key)
        models = [load_model(found.entry(name).folder, pack, key) for name in (one, other)]
        plan: ScoringPlan = models[0].plan
        if models[1].plan != plan:
            raise ModelError("they look at other features, or at other events: not comparable")
        opened = [open_log(path, time.time_ns() // 1_000_000) for path in logs]
        topology = Topology(pack, settings.runner.max_users)
        rows = collect_rows(topology, plan, opened, lambda: None)
    scores = [model.forest.score(rows.features) for model in models]
    ranks = [model.reference.rank(score) for model, score in zip(models, scores, strict=True)]
    alerts = [rank >= model.alert_rank for rank, model in zip(ranks, models, strict=True)]
    table = Table("", *(model.model_id for model in models), "both")
    table.add_row("rows", f"{len(rows.users):,}", f"{len(rows.users):,}", "")
    both = alerts[0] & alerts[1]
    table.add_row("rows that alert", *(f"{a.sum():,}" for a in alerts), f"{both.sum():,}")
    users = [np.unique(rows.users[alert]) for alert in alerts]
    table.add_row(
        "users who alert",
        *(f"{len(some):,}" for some in users),
        f"{len(np.intersect1d(users[0], users[1])):,}",
    )
    correlation = np.corrcoef(ranks[0], ranks[1])[0, 1] if len(rows.users) > 1 else np.nan
    console = Console()
    console.print(table)
    console.print(f"correlation of the ranks: {correlation:.3f}", highlight=False)


def _open(registry: str | None, config: Path | None) -> tuple[Registry, Settings]:
    """The registry of the option or the settings."""
    with stop_on(ConfigurationError, exit_code=USAGE):
        settings = load_settings(
            {"models": {"registry": registry}}, config=config, environ=os.environ
        )
    with stop_on(ModelError, exit_code=USAGE):
        if not settings.models.registry:
            raise ModelError(
                "where are the models? Give --registry, or set models.registry "
                "(FLOODWATCH_MODELS__REGISTRY)"
            )
    return Registry(Path(settings.models.registry)), settings
