"""``floodwatch train``: an anomaly model from recorded logs."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from polars.exceptions import PolarsError
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from detectors.compiled import compile_pack
from detectors.errors import PackError
from detectors.topology import Topology
from monitor.failures import USAGE, stop_on
from monitor.logs import LogError, open_log
from monitor.models.display import print_card
from monitor.models.errors import ModelError
from monitor.models.files import CARD, SIGNATURE, write_model
from monitor.models.opening import read_key
from monitor.models.rows import collect_rows, read_rows, write_rows
from monitor.models.signing import sign
from monitor.models.training import TrainingSettings
from monitor.models.training import train as train_model
from monitor.options import ConfigOption, PackOption
from monitor.packs import load_pack
from monitor.settings_sources import ConfigurationError, load_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from detectors.anomaly import ScoringPlan
    from monitor.config import Settings
    from monitor.models.rows import FeatureRows
    from monitor.models.training import Trained

__all__ = ["train"]

_DEFAULTS = TrainingSettings()


def train(  # noqa: PLR0913, PLR0917 - the parameters are the command's options
    sources: Annotated[
        list[Path],
        typer.Option(
            "--from", help="Logs (.ndjson, .ndjson.zst, .parquet), or rows that --save-rows kept."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the model; files in it are replaced.")],
    pack: PackOption = None,
    alerts_per_10000: Annotated[
        float, typer.Option(min=0.01, max=1_000, help="Alerts wanted for 10,000 users and day.")
    ] = _DEFAULTS.alerts_per_10000,
    trees: Annotated[int, typer.Option(min=1, max=1_000, help="Trees.")] = _DEFAULTS.trees,
    max_samples: Annotated[
        int, typer.Option(min=16, max=1_000_000, help="Rows for each tree.")
    ] = _DEFAULTS.max_samples,
    seed: Annotated[
        int, typer.Option(min=0, help="The same seed and rows give the same model.")
    ] = 1,
    max_age_days: Annotated[
        float, typer.Option(min=0.1, help="From when on the model is too old to be trusted.")
    ] = _DEFAULTS.max_age_days,
    exclude: Annotated[
        Path | None,
        typer.Option(help="Users to leave out, one id a line: those of confirmed incidents."),
    ] = None,
    save_rows: Annotated[
        Path | None, typer.Option(help="Keep the rows as .parquet, for another --from.")
    ] = None,
    sign_with: Annotated[
        str, typer.Option(help="Ed25519 private key (PEM) to sign the model with.")
    ] = "",
    config: ConfigOption = None,
) -> None:
    """Train an anomaly model: the forest, what it was calibrated on, and its card.

    The logs are replayed through the pack's own features; users with a verdict of abuse are left
    out. The last line names the model and what the held-out period gave.
    """
    wanted = TrainingSettings(
        trees=trees,
        max_samples=max_samples,
        seed=seed,
        alerts_per_10000=alerts_per_10000,
        max_age_days=max_age_days,
    )
    with stop_on(ConfigurationError, exit_code=USAGE):
        settings = load_settings({"pack": pack}, config=config, environ=os.environ)
    with (
        stop_on(PackError, exit_code=USAGE),
        stop_on(LogError, ModelError, PolarsError, OSError),
    ):
        key = read_key(sign_with)
        named = [] if exclude is None else exclude.read_text(encoding="utf-8").split()
        trained = _train(settings, sources, named, save_rows, wanted)
        identity = write_model(out, trained.card, trained.forest, trained.reference)
        if key is not None:
            sign(out / SIGNATURE, (out / CARD).read_bytes(), key)
    _report(identity, out, trained)


def _report(identity: str, out: Path, trained: Trained) -> None:
    console = Console()
    print_card(console, identity, trained.card)
    calibration = trained.card.calibration
    console.print(
        f"model {identity} in {out}: {calibration.held_out_alerting_user_days} of "
        f"{calibration.held_out_user_days:,} held-out user-days alert, "
        f"{calibration.held_out_per_10000:.2f} per 10,000",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def _train(
    settings: Settings,
    sources: Sequence[Path],
    excluded: Sequence[str],
    save_rows: Path | None,
    wanted: TrainingSettings,
) -> Trained:
    """The rows, without users who are known to be abusive, then the model."""
    topology = Topology(compile_pack(load_pack(settings.pack)), settings.runner.max_users)
    plan = topology.pack.plan
    if plan is None:
        raise ModelError(f"the pack {settings.pack!r} does not say what a model looks at")
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as progress:
        rows = _rows(sources, topology, plan, progress)
        if save_rows is not None:
            write_rows(save_rows, rows, plan)
        progress.add_task("growing trees", total=None)
        return train_model(
            rows.without(excluded),
            len(rows.condemned) + len(excluded),
            topology.pack,
            [path.name for path in sources],
            wanted,
        )


def _rows(
    sources: Sequence[Path], topology: Topology, plan: ScoringPlan, progress: Progress
) -> FeatureRows:
    for path in sources:
        if not path.is_file():
            raise LogError(f"{path}: there is no such file")
    if len(sources) == 1 and (kept := read_rows(sources[0], plan)) is not None:
        return kept
    logs = [open_log(path, time.time_ns() // 1_000_000) for path in sources]
    size_bytes = sum(log.size_bytes for log in logs)
    task = progress.add_task("replaying", total=size_bytes)
    rows = collect_rows(
        topology,
        plan,
        logs,
        lambda: progress.update(task, completed=sum(log.done_bytes for log in logs)),
    )
    progress.update(task, completed=size_bytes)
    return rows
