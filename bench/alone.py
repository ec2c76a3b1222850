"""Figures of the product by itself, without a broker: replay and memory, each on one core."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from bench.corpus import Corpus
from bench.errors import BenchError
from bench.process import failure, launch
from bench.rounds import Sizes
from bench.summary import Spread

__all__ = ["ALONE", "figures_of", "measure_alone"]

_DEADLINE_S: Final = 600

ALONE: Final[Mapping[str, Callable[[Corpus, Sizes], Sequence[str]]]] = MappingProxyType(
    {
        "replay_ndjson": lambda corpus, _: ("bench.replay", str(corpus.ndjson)),
        "replay_parquet": lambda corpus, _: ("bench.replay", str(corpus.parquet)),
        "memory": lambda corpus, sizes: ("bench.memory", str(corpus.parquet), str(sizes.users)),
    }
)
"""What is measured, by the name that ``--only`` takes: the module that does it, its arguments."""


def measure_alone(
    names: Sequence[str], corpus: Corpus, sizes: Sizes, core: int, say: Callable[[str], None]
) -> dict[str, Spread]:
    """Each figure, taken once a round in a fresh process on ``core``. Raises BenchError."""
    values: dict[str, list[float]] = {}
    for number in range(1, sizes.rounds + 1):
        for name in names:
            for figure, value in figures_of(ALONE[name](corpus, sizes), core).items():
                values.setdefault(figure, []).append(value)
                say(f"round {number} of {sizes.rounds}: {figure}: {value:,.0f}")
    return {figure: Spread.of(taken) for figure, taken in values.items()}


def figures_of(module_and_arguments: Sequence[str], core: int) -> dict[str, Any]:
    """The figures that the process prints as JSON on its last line. Raises BenchError."""
    module = module_and_arguments[0]
    with tempfile.TemporaryDirectory(prefix="floodwatch-bench-") as folder:
        log = Path(folder) / "log"
        with launch([sys.executable, "-m", *module_and_arguments], log, core) as process:
            try:
                code = process.wait(_DEADLINE_S)
            except subprocess.TimeoutExpired:
                raise failure(f"{module} had not finished after {_DEADLINE_S} s", log) from None
        if code != 0:
            raise failure(f"{module} ended with code {code}", log)
        last_line = (log.read_text().splitlines() or [""])[-1]
    try:
        figures: dict[str, Any] = json.loads(last_line)
    except ValueError as error:
        raise BenchError(f"{module} should print figures, not {last_line!r}") from error
    return figures
