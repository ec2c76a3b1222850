"""Reads a pack: three or four YAML files become the plain descriptions of ``detectors.pack``."""

from __future__ import annotations

import os
import re
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from pydantic import BaseModel

from detectors.errors import near_match
from detectors.pack import (
    Action,
    AnomalySpec,
    DerivedSpec,
    FeatureSpec,
    LimitSpec,
    LimitsSpec,
    Pack,
    RuleCase,
    RuleSpec,
    SegmentSpec,
    SharedKeySpec,
    SharedSpec,
    TraitSpec,
    WindowSpec,
)
from monitor.durations import parse_duration_ms
from monitor.packs.compile import compile_problems
from monitor.packs.consistency import consistency_problems
from monitor.packs.document import Document, read_document
from monitor.packs.models import (
    DerivedModel,
    FeatureModel,
    FeaturesFile,
    LimitsFile,
    RuleModel,
    RulesFile,
    SharedFile,
    WindowModel,
)
from monitor.packs.problems import PackProblems, Problem
from monitor.packs.source import PackSource
from monitor.packs.steps import expand
from monitor.packs.validation import validate

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["load_pack", "read_pack"]

_File = TypeVar("_File", bound=BaseModel)

_BUILT_IN_NAME: Final = re.compile(r"[a-z0-9_-]+")
_DEFAULT_CAPACITY: Final = 16
_SHARED_FILE: Final = "shared.yaml"


def load_pack(path_or_name: str | Path) -> Pack:
    """Read and check a pack: a folder, or the name of a built-in one such as ``default``.

    Raises:
        PackProblems: everything wrong with it, each by file, line and entry (a ``PackError``).
    """
    return read_pack(path_or_name).pack


def read_pack(path_or_name: str | Path) -> PackSource:
    """As ``load_pack``, with the lines of the files, for those who report on the pack."""
    folder = _folder(path_or_name)
    problems: list[Problem] = []
    documents: dict[str, Document] = {}
    features = _read(folder, "features", FeaturesFile, documents, problems)
    rules = _read(folder, "rules", RulesFile, documents, problems)
    limits = _read(folder, "limits", LimitsFile, documents, problems)
    shared = None
    if (folder / _SHARED_FILE).exists():
        shared = _read(folder, "shared", SharedFile, documents, problems)
    problems.extend(consistency_problems(documents, features, rules, limits, shared))
    if problems or features is None or rules is None or limits is None:
        raise PackProblems(problems)
    source = PackSource(_pack(folder.name, features, rules, limits, shared), documents)
    problems.extend(compile_problems(source))
    if problems:
        raise PackProblems(problems)
    return source


def _folder(path_or_name: str | Path) -> Path:
    """The folder of a pack. A plain word is a built-in pack; ``./word`` is a folder."""
    if isinstance(path_or_name, str) and _BUILT_IN_NAME.fullmatch(path_or_name):
        packs = Path(str(resources.files("detectors"))) / "packs"
        built_in = packs / path_or_name
        if built_in.is_dir():
            return built_in
        known = sorted(folder.name for folder in packs.iterdir() if folder.is_dir())
        if not Path(path_or_name).is_dir():
            hint = near_match(path_or_name, known) or f"built-in packs are {', '.join(known)}"
            problem = Problem(path_or_name, 0, "", "is neither a built-in pack nor a folder", hint)
            raise PackProblems([problem])
    folder = Path(path_or_name)
    if not folder.is_dir():
        hint = "a pack is a folder with features.yaml, rules.yaml and limits.yaml"
        raise PackProblems([Problem(str(folder), 0, "", "is not a folder", hint)])
    return folder


def _read(
    folder: Path,
    name: str,
    model: type[_File],
    documents: dict[str, Document],
    problems: list[Problem],
) -> _File | None:
    path = folder / f"{name}.yaml"
    try:
        documents[name] = read_document(path, _shown(path))
        return validate(documents[name], model)
    except PackProblems as found:
        problems.extend(found.problems)
        return None


def _shown(path: Path) -> str:
    """The path as one would type it here: relative where that is shorter."""
    absolute = path.absolute()
    try:
        return str(absolute.relative_to(Path.cwd()))
    except ValueError:
        return os.fspath(absolute)


def _pack(
    name: str,
    features: FeaturesFile,
    rules: RulesFile,
    limits: LimitsFile,
    shared: SharedFile | None,
) -> Pack:
    return Pack(
        name=name,
        windows=_windows(features.windows),
        features=_features(features.features),
        derived=_derived(features.derived),
        rules=tuple(_rules(rules.rules)),
        limits=LimitsSpec(
            actions=dict(limits.actions),
            limits=tuple(
                LimitSpec(limit.name, limit.action, limit.per, dict(limit.allow), limit.quantity)
                for limit in limits.limits
            ),
            default_tier=limits.default_tier,
            tiers=tuple(limits.limits[0].allow),
            decision_ms=limits.decision,
        ),
        anomaly=AnomalySpec(
            tuple(features.anomaly.features), features.anomaly.where, features.anomaly.every_ms
        )
        if features.anomaly
        else None,
        shared=None if shared is None else _shared(shared),
    )


def _shared(shared: SharedFile) -> SharedSpec:
    return SharedSpec(
        keys=tuple(
            SharedKeySpec(key.name, key.column, key.where, key.form, key.lasting, key.doc)
            for key in shared.keys
        ),
        windows=_windows(shared.windows),
        features=_features(shared.features),
        derived=_derived(shared.derived),
        segments=tuple(
            SegmentSpec(part.name, part.column or "", part.where, part.doc)
            for part in shared.segments
        ),
        traits=tuple(TraitSpec(trait.name, trait.where, trait.doc) for trait in shared.traits),
    )


def _windows(models: Mapping[str, WindowModel]) -> tuple[WindowSpec, ...]:
    return tuple(
        WindowSpec(window, parse_duration_ms(window), model.panes)
        for window, model in models.items()
    )


def _features(models: Iterable[FeatureModel]) -> tuple[FeatureSpec, ...]:
    return tuple(
        FeatureSpec(
            name=feature.name,
            kind=feature.kind,
            windows=tuple(feature.windows),
            where=feature.where,
            of=feature.of or "",
            capacity=feature.capacity or _DEFAULT_CAPACITY,
            doc=feature.doc,
        )
        for feature in models
    )


def _derived(models: Iterable[DerivedModel]) -> tuple[DerivedSpec, ...]:
    return tuple(DerivedSpec(d.name, d.sql, d.doc) for d in models)


def _rules(models: Iterable[RuleModel]) -> Iterable[RuleSpec]:
    for rule in models:
        yield RuleSpec(
            id=rule.id,
            title=rule.title,
            when=rule.when,
            severity=rule.severity,
            cooldown_ms=rule.cooldown,
            runbook=rule.runbook,
            key=rule.key,
            mode=rule.mode,
            action=Action(rule.action.kind, rule.action.scope, rule.action.duration_ms)
            if rule.action
            else None,
            tags=tuple(rule.tags),
            cases=tuple(
                RuleCase(case.name, case.fires, case.columns, tuple(expand(case.events or ())))
                for case in rule.cases
            ),
        )
