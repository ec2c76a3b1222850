"""Plays the cases of a pack's rules: one row evaluated, or events through a real stage."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from detectors.batch import EventBatch
from detectors.compiled import CompiledPack, compile_pack
from detectors.errors import near_match
from detectors.group_stage import GroupStage
from detectors.incidents import Alert
from detectors.pack import CAMPAIGN_SPACE, SEGMENT_SPACE, USER_SPACE
from detectors.rules import Rules
from detectors.shared_stage import SharedStage
from detectors.stages import StageOutputs, UserStage
from monitor.packs.steps import misfit

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from detectors.pack import FeatureSpec, Pack, RuleCase, RuleSpec
    from detectors.rules import Condition, Rule

__all__ = ["CaseResult", "check_pack"]

_MAX_USERS: Final = 4_096
_PROBE_COOLDOWN_MS: Final = 0


@dataclass(frozen=True, slots=True)
class CaseResult:
    """How a case went. ``detail`` says why where it did not go as expected."""

    rule_id: str
    case: str
    expected: bool
    fired: bool
    detail: str = ""

    @property
    def passed(self) -> bool:
        """Whether the rule did what the case expects."""
        return self.fired == self.expected and not self.detail


def check_pack(pack: Pack) -> tuple[CaseResult, ...]:
    """Compile a pack and play every case of every rule, in the order of the rules.

    Raises:
        PackError: the pack does not compile (``load_pack`` has reported that better).
    """
    compiled = compile_pack(pack)
    return tuple(
        _by_columns(compiled, index, case, case.columns)
        if case.columns is not None
        else _by_events(compiled, index, case)
        for index, rule in enumerate(pack.rules)
        for case in rule.cases
    )


def _by_columns(
    compiled: CompiledPack, index: int, case: RuleCase, given: Mapping[str, Any]
) -> CaseResult:
    family = _family(compiled, compiled.pack.rules[index])
    rule = family.rule
    problem = _unusable(family.schema, given)
    if problem:
        return _broken(rule.spec, case, problem)
    frame = _one_row(family, given)
    held = Rules([rule]).held(frame, np.ones(1, dtype=np.bool_))
    if rule.spec.id in held.errors:
        return _broken(rule.spec, case, held.errors[rule.spec.id])
    fired = bool(len(held.rules))
    evidence = rule.evidence(frame.select(sorted(rule.when.columns)).row(0, named=True))
    return _result(rule, case, fired, evidence)


@dataclass(frozen=True, slots=True)
class _Family:
    """A rule with the columns that rules of its key space can read, and how they are derived.

    ``counted`` columns are 0 where nothing happened, ``flags`` are false.
    """

    rule: Rule
    schema: Mapping[str, pl.DataType]
    levels: tuple[tuple[pl.Expr, ...], ...]
    derived: frozenset[str]
    counted: frozenset[str]
    flags: frozenset[str]


def _family(compiled: CompiledPack, spec: RuleSpec) -> _Family:
    flags = frozenset(compiled.limits.columns)
    pack, shared = compiled.pack, compiled.shared
    derived = [derived.name for derived in pack.derived]
    levels = (*compiled.event_derived, *compiled.feature_derived)
    counted = _counted(pack.features)
    if spec.key == USER_SPACE:
        rules, schema = compiled.rules, compiled.schema
    elif shared is None or pack.shared is None or spec.key in (SEGMENT_SPACE, CAMPAIGN_SPACE):
        assert shared is not None
        rules, schema = shared.segment_rules, shared.segment_schema
        if spec.key == CAMPAIGN_SPACE:
            rules, schema = shared.campaign_rules, shared.campaign_schema
        levels, derived, counted, flags = (), [], frozenset(), frozenset()
    else:
        rules, schema, levels = shared.rules[spec.key], shared.schema, (*levels, *shared.derived)
        derived += [derived.name for derived in pack.shared.derived]
        counted |= _counted(pack.shared.features)
    rule = next(rule for rule in rules.rules if rule.spec.id == spec.id)
    return _Family(rule, schema, levels, frozenset(derived), counted, flags)


def _counted(features: Iterable[FeatureSpec]) -> frozenset[str]:
    return frozenset(
        f"{feature.name}_{window}"
        for feature in features
        if feature.kind != "gap"
        for window in feature.windows
    )


def _unusable(schema: Mapping[str, pl.DataType], given: Mapping[str, Any]) -> str:
    """What is wrong with the columns that a case gives; empty where nothing is."""
    for name, value in given.items():
        if name not in schema:
            hint = near_match(name, schema) or "see `floodwatch rules columns`"
            return f"no column {name!r} ({hint})"
        wrong = misfit(value, schema[name])
        if wrong:
            return f"{name}: {wrong}"
    return ""


def _one_row(family: _Family, given: Mapping[str, Any]) -> pl.DataFrame:
    """One row of every column: as given, derived from that, or 0, false or null."""
    row: dict[str, object] = {name: None for name in family.schema if name not in family.derived}
    row |= dict.fromkeys(family.flags, False)
    row |= dict.fromkeys(family.counted, 0.0)
    row |= given
    frame = pl.DataFrame(
        {name: pl.Series([row[name]], dtype=family.schema[name], strict=False) for name in row}
    )
    for level in family.levels:
        frame = frame.with_columns(
            expression for expression in level if expression.meta.output_name() not in given
        )
    return frame


def _by_events(compiled: CompiledPack, index: int, case: RuleCase) -> CaseResult:
    rule = _family(compiled, compiled.pack.rules[index]).rule
    played = _play(compiled, rule.spec, case)
    if rule.spec.id in played.rule_errors:
        return _broken(rule.spec, case, played.rule_errors[rule.spec.id])
    fired = any(alert.rule_id == rule.spec.id for alert in _alerts(played))
    if fired == case.fires:
        return CaseResult(rule.spec.id, case.name, case.fires, fired)
    return _result(rule, case, fired, _closest(compiled.pack, rule.spec, case))


def _play(compiled: CompiledPack, rule: RuleSpec, case: RuleCase) -> StageOutputs:
    played = UserStage(compiled, _MAX_USERS).process(EventBatch.from_rows(case.events))
    if played.traces is not None and rule.key != USER_SPACE:
        shared = SharedStage(compiled, _MAX_USERS).process(played.traces)
        played.outputs += shared.outputs
        played.rule_errors |= shared.rule_errors
        if shared.meetings is not None:
            groups = GroupStage(compiled, _MAX_USERS).process(shared.meetings)
            played.outputs += groups.outputs
            played.rule_errors |= groups.rule_errors
    return played


def _alerts(played: StageOutputs) -> Iterator[Alert]:
    return (output for output in played.outputs if isinstance(output, Alert))


def _closest(pack: Pack, rule: RuleSpec, case: RuleCase) -> tuple[Condition, ...]:
    """The values at the (last) event at which most of the rule's comparisons held.

    A probe that holds at every event and never cools down reports the rule's values at each.
    """
    probe = replace(
        rule, when=f"({rule.when}) or time_ms is not null", cooldown_ms=_PROBE_COOLDOWN_MS
    )
    compiled = compile_pack(replace(pack, rules=(probe,)))
    seen = [alert.evidence for alert in _alerts(_play(compiled, probe, case))]
    return max(reversed(seen), key=lambda evidence: sum(c.holds for c in evidence), default=())


def _broken(rule: RuleSpec, case: RuleCase, why: str) -> CaseResult:
    """A case that could not be judged: it fails, whatever it expects."""
    return CaseResult(rule.id, case.name, case.fires, False, why)


def _result(rule: Rule, case: RuleCase, fired: bool, evidence: tuple[Condition, ...]) -> CaseResult:
    if fired == case.fires:
        return CaseResult(rule.spec.id, case.name, case.fires, fired)
    conditions = [c for c in evidence if c.holds == fired and c.column != "time_ms"]
    values = "; ".join(str(condition) for condition in conditions)
    did = "fired" if fired else "did not fire"
    because = "because" if fired else "closest miss:"
    return CaseResult(rule.spec.id, case.name, case.fires, fired, f"{did}, {because} {values}")
