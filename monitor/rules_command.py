"""``floodwatch rules``: check a pack and its cases, list the columns that its SQL can use."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Annotated, Final

import polars as pl
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from detectors.anomaly import ANOMALY_COLUMNS
from detectors.compiled import CompiledPack, compile_pack
from detectors.errors import PackError
from detectors.events import COLUMNS
from monitor.packs import CaseResult, PackSource, check_pack, read_pack

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from detectors.pack import RuleSpec

__all__ = ["app"]

app = typer.Typer(help="Check the rules of a pack; list the columns they can use.")

PackArgument = Annotated[
    str, typer.Argument(help="A built-in pack such as default, or the folder of a pack.")
]

_GAP_PARTS: Final = {
    "mean_s_": "Mean time between events, seconds; null without one.",
    "cv_": "Coefficient of variation of that time: near 0 for a machine; null below 5 gaps.",
    "max_s_": "Longest time between events, seconds; null without one.",
}
_SEVERITY_STYLES: Final = {"critical": "bold red", "high": "red", "medium": "yellow"}


@app.command()
def check(pack: PackArgument = "default") -> None:
    """Load a pack, play every rule's cases, say what is wrong by file and line (exit code 1)."""
    source = _read(pack)
    results: dict[str, list[CaseResult]] = defaultdict(list)
    for result in check_pack(source.pack):
        results[result.rule_id].append(result)
    console = Console()
    console.print(_rules_table(source.pack.rules, results))
    failures = list(_failures(source, results))
    for failure in failures:
        console.print(failure, style="red", markup=False, highlight=False, soft_wrap=True)
    cases = sum(len(played) for played in results.values())
    console.print(
        f"{source.pack.name} {source.pack.version}: {len(source.pack.rules)} rules, "
        f"{cases - len(failures)} of {cases} cases passed",
        style="red" if failures else "green",
        highlight=False,
    )
    if failures:
        raise typer.Exit(1)


@app.command()
def columns(pack: PackArgument = "default") -> None:
    """List every column that SQL can use: of events, derived, of limits, features, models."""
    compiled = compile_pack(_read(pack).pack)
    table = Table(Column("column", no_wrap=True), "type", "from", "what it says")
    for name, kind, origin, doc in _columns(compiled):
        table.add_row(escape(name), kind, origin, escape(doc))
    Console().print(table)


def _read(pack: str) -> PackSource:
    try:
        return read_pack(pack)
    except PackError as error:
        console = Console(stderr=True)
        console.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error


def _rules_table(rules: Sequence[RuleSpec], results: Mapping[str, Sequence[CaseResult]]) -> Table:
    table = Table("rule", "severity", "mode", "action", "cases")
    for rule in rules:
        played = results[rule.id]
        passed = sum(result.passed for result in played)
        action = f"{rule.action.kind} {rule.action.scope}" if rule.action else "-"
        style = "green" if passed == len(played) else "red"
        table.add_row(
            rule.id,
            f"[{_SEVERITY_STYLES.get(rule.severity, 'default')}]{rule.severity}[/]",
            rule.mode,
            action,
            f"[{style}]{passed} of {len(played)}[/]",
        )
    return table


def _failures(source: PackSource, results: Mapping[str, Sequence[CaseResult]]) -> Iterator[str]:
    for number, rule in enumerate(source.pack.rules):
        for position, result in enumerate(results[rule.id]):
            if not result.passed:
                path = ("rules", number, "cases", position)
                message = f"{rule.id}: case {result.case!r}: {result.detail}"
                yield str(source.problem("rules", path, message))


def _columns(compiled: CompiledPack) -> Iterator[tuple[str, str, str, str]]:
    """Name, type, origin and meaning of every column, in the order they are computed."""
    docs = {column.name: (column.doc, "event") for column in COLUMNS}
    docs["limited"] = ("Over one of the limits of its action.", "limits")
    for limit in compiled.pack.limits.limits:
        docs[f"over_{limit.name}"] = (f"Over the limit {limit.name}.", "limits")
    docs |= {spec.name: (spec.doc, "derived") for spec in compiled.pack.derived}
    for feature in compiled.pack.features:
        parts = _GAP_PARTS if feature.kind == "gap" else {"": feature.doc}
        for part, doc in parts.items():
            for window in feature.windows:
                docs[f"{feature.name}_{part}{window}"] = (f"{doc} In the last {window}.", "feature")
    docs |= {name: (doc, "model") for name, doc in ANOMALY_COLUMNS.items()}
    for name, dtype in compiled.schema.items():
        doc, origin = docs[name]
        yield name, _type_name(dtype), origin, doc


def _type_name(dtype: pl.DataType) -> str:
    if dtype.is_numeric():
        return "number"
    return "true/false" if dtype == pl.Boolean else "text"
