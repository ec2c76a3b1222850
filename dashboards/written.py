"""The files that are made of the code: each with its text, so that a test can compare them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from dashboards.rules.catalogue import ALERTING, RECORDED
from dashboards.rules.delay import DELAY
from dashboards.rules.model import rules_yaml, tests_yaml

__all__ = ["FOLDER", "rule_files", "write"]

FOLDER: Final = Path(__file__).parent
_HEADER: Final = "# Written by `make dashboards` from dashboards/rules; change it there.\n"
_RULES: Final = ("recording.yml", "alerting.yml")


def rule_files() -> Iterator[tuple[Path, str]]:
    """Prometheus' rules, and their tests for promtool: path below ``FOLDER`` and text."""
    prometheus = Path("prometheus")
    yield prometheus / _RULES[0], rules_yaml(RECORDED, _HEADER)
    yield prometheus / _RULES[1], rules_yaml(ALERTING, _HEADER)
    tested = [f"../{name}" for name in _RULES]
    order = [group.name for group in (*RECORDED, *ALERTING)]
    others = [group for group in ALERTING if group is not DELAY]
    for name, groups, every in (("delay", [DELAY], "30m"), ("alerting", others, "1m")):
        path = prometheus / "tests" / f"{name}.test.yml"
        yield path, tests_yaml(groups, tested, _HEADER, every=every, order=order)


def write(files: Iterator[tuple[Path, str]], folder: Path = FOLDER) -> list[Path]:
    """Write files below a folder; which of them changed."""
    changed = []
    for path, text in files:
        target = folder / path
        if not target.is_file() or target.read_text(encoding="utf-8") != text:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
            changed.append(target)
    return changed
