"""What entries of a pack must agree on: unique names, known windows, tiers, actions, columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from detectors.errors import near_match
from monitor.durations import parse_duration_ms
from monitor.packs.models import MAX_PANES
from monitor.packs.steps import check_step

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from monitor.packs.document import Document, EntryPath
    from monitor.packs.models import FeaturesFile, LimitsFile, RuleModel, RulesFile, SharedFile
    from monitor.packs.problems import Problem

__all__ = ["consistency_problems"]

_MIN_WINDOW_MS: Final = 10_000
_MIN_PANE_MS: Final = 1_000
_MAX_WINDOW_MS: Final = 30 * 86_400_000
_MAX_FEATURE_COLUMNS: Final = 256
_COLUMNS_PER_GAP: Final = 3
_EVERY_SCOPE: Final = "all"


def consistency_problems(
    documents: Mapping[str, Document],
    features: FeaturesFile | None,
    rules: RulesFile | None,
    limits: LimitsFile | None,
    shared: SharedFile | None,
) -> Iterator[Problem]:
    """Everything in which entries do not fit together, in those files that could be read."""
    if shared is not None:
        document = documents["shared"]
        yield from _window_problems(document, shared)
        for key, entries in (
            ("keys", shared.keys),
            ("features", shared.features),
            ("derived", shared.derived),
            ("segments", shared.segments),
            ("traits", shared.traits),
        ):
            yield from _duplicates(document, key, "name", (entry.name for entry in entries))
    if features is not None:
        document = documents["features"]
        yield from _window_problems(document, features)
        yield from _duplicates(document, "features", "name", (f.name for f in features.features))
        yield from _duplicates(document, "derived", "name", (d.name for d in features.derived))
    if limits is not None:
        document = documents["limits"]
        yield from _limit_problems(document, limits)
        yield from _duplicates(document, "limits", "name", (li.name for li in limits.limits))
    if rules is not None:
        document = documents["rules"]
        yield from _duplicates(document, "rules", "id", (rule.id for rule in rules.rules))
        for index, rule in enumerate(rules.rules):
            yield from _case_problems(document, index, rule)
            if limits is not None:
                yield from _scope_problems(document, index, rule, [*limits.actions, _EVERY_SCOPE])


def _duplicates(
    document: Document, key: str, field: str, names: Iterable[str]
) -> Iterator[Problem]:
    first: dict[str, EntryPath] = {}
    for index, name in enumerate(names):
        path = (key, index, field)
        if name in first:
            line = document.line(first[name])
            yield document.problem(path, f"{name!r} is already taken in line {line}")
        first.setdefault(name, path)


def _window_problems(document: Document, features: FeaturesFile | SharedFile) -> Iterator[Problem]:
    for name, window in features.windows.items():
        path = ("windows", name)
        try:
            length_ms = parse_duration_ms(name)
        except ValueError as error:
            yield document.problem(path, str(error))
            continue
        if not _MIN_WINDOW_MS <= length_ms <= _MAX_WINDOW_MS:
            yield document.problem(path, f"{name} is outside 10s to 30d")
        elif length_ms % window.panes or length_ms // window.panes < _MIN_PANE_MS:
            message = f"{name} is not divisible into {window.panes} panes of at least 1s"
            hint = f"{_nearest_panes(length_ms, window.panes)} would do"
            yield document.problem((*path, "panes"), message, hint)
    columns = 0
    for index, feature in enumerate(features.features):
        columns += len(feature.windows) * (_COLUMNS_PER_GAP if feature.kind == "gap" else 1)
        for position, window_name in enumerate(feature.windows):
            path_of_window = ("features", index, "windows", position)
            if window_name not in features.windows:
                known = ", ".join(features.windows)
                hint = near_match(window_name, features.windows) or f"windows are {known}"
                yield document.problem(path_of_window, f"unknown window {window_name!r}", hint)
            elif window_name in feature.windows[:position]:
                yield document.problem(path_of_window, f"window {window_name!r} is given twice")
    if columns > _MAX_FEATURE_COLUMNS:
        message = f"{columns} feature columns, {_MAX_FEATURE_COLUMNS} at most"
        yield document.problem(("features",), message)


def _nearest_panes(length_ms: int, panes: int) -> int:
    """A number of panes that would do, near to ``panes``: 2 always does (windows last 10 s)."""
    fitting = [
        count
        for count in range(2, MAX_PANES + 1)
        if length_ms % count == 0 and length_ms // count >= _MIN_PANE_MS
    ]
    return min(fitting, key=lambda count: abs(count - panes))


def _limit_problems(document: Document, limits: LimitsFile) -> Iterator[Problem]:
    tiers = list(limits.limits[0].allow)
    if limits.default_tier not in tiers:
        hint = near_match(limits.default_tier, tiers) or f"tiers are {', '.join(tiers)}"
        yield document.problem(
            ("default_tier",), f"no limit allows tier {limits.default_tier!r}", hint
        )
    for index, limit in enumerate(limits.limits):
        path = ("limits", index)
        if limit.action not in limits.actions:
            known = ", ".join(limits.actions)
            hint = near_match(limit.action, limits.actions) or f"actions are {known}"
            yield document.problem((*path, "action"), f"unknown action {limit.action!r}", hint)
        for tier in limit.allow:
            if tier not in tiers:
                hint = near_match(tier, tiers) or f"the first limit has {', '.join(tiers)}"
                yield document.problem((*path, "allow", tier), f"unknown tier {tier!r}", hint)
        missing = [tier for tier in tiers if tier not in limit.allow]
        if missing:
            message = f"says nothing for {', '.join(missing)}"
            yield document.problem((*path, "allow"), message, "every limit names every tier")


def _scope_problems(
    document: Document, index: int, rule: RuleModel, scopes: list[str]
) -> Iterator[Problem]:
    if rule.action is not None and rule.action.scope not in scopes:
        path = ("rules", index, "action", "scope")
        hint = near_match(rule.action.scope, scopes) or f"scopes are {', '.join(scopes)}"
        yield document.problem(path, f"unknown action {rule.action.scope!r}", hint)


def _case_problems(document: Document, index: int, rule: RuleModel) -> Iterator[Problem]:
    names: set[str] = set()
    for number, case in enumerate(rule.cases):
        path = ("rules", index, "cases", number)
        if case.name in names:
            yield document.problem((*path, "name"), f"a second case {case.name!r}")
        names.add(case.name)
        for step_number, step in enumerate(case.events or ()):
            for error in check_step(step):
                step_path = (*path, "events", step_number, error.column)
                yield document.problem(step_path, error.message, error.hint)
