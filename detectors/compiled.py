"""A pack ready to run: what does not change while events flow.

Compiling checks everything: the schema, the kernel plans, the expressions.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import polars as pl

from detectors.anomaly import ANOMALY_COLUMNS, ScoringPlan, check_plan
from detectors.batch import CONTEXT_COLUMNS, CORE_COLUMNS
from detectors.errors import ExpressionError, PackError, near_match
from detectors.events import event_schema
from detectors.expressions import Expression, parse
from detectors.features import FeaturePlan, plan_features
from detectors.limits import LimitsPlan, plan_limits
from detectors.pack import CAMPAIGN_SPACE, SEGMENT_SPACE, USER_SPACE
from detectors.pressure import compile_built_in
from detectors.rules import Rule, Rules, compile_rules
from detectors.shared import CompiledShared, compile_shared

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from detectors.pack import DerivedSpec, Pack

__all__ = ["CompiledPack", "compile_pack"]


@dataclass(frozen=True, slots=True)
class CompiledPack:
    """A pack ready to run: everything checked, columns resolved.

    ``event_columns`` are the columns a batch must carry; ``event_derived`` and
    ``feature_derived`` are levels of derived columns, each computable from what comes before;
    ``schema`` is every column that rules can read, ``scored_schema`` those of them that are there
    before anything is scored. ``alert_storm``, ``table_pressure`` and ``model_drift`` are the rules
    about the monitor itself. ``rules`` are about users; those about others are in ``shared``.
    """

    pack: Pack
    version: str
    event_columns: frozenset[str]
    event_derived: tuple[tuple[pl.Expr, ...], ...]
    limits: LimitsPlan
    features: FeaturePlan
    feature_derived: tuple[tuple[pl.Expr, ...], ...]
    rules: Rules
    alert_storm: Rule
    table_pressure: Rule
    model_drift: Rule
    scored_schema: Mapping[str, pl.DataType]
    schema: Mapping[str, pl.DataType]
    shared: CompiledShared | None

    @property
    def plan(self) -> ScoringPlan | None:
        """What an anomaly model that is trained on this pack looks at."""
        anomaly = self.pack.anomaly
        return None if anomaly is None else ScoringPlan(**asdict(anomaly))

    @property
    def all_rules(self) -> tuple[Rule, ...]:
        """Every rule that can open an incident of a user."""
        return (*self.rules.rules, self.alert_storm, self.table_pressure, self.model_drift)


def compile_pack(pack: Pack) -> CompiledPack:
    """Check and compile a pack.

    Raises:
        PackError: what is wrong and where: see ``plan_features``, ``plan_limits``,
            ``compile_rules``.
    """
    events = event_schema()
    limits = plan_limits(pack.limits, events)
    schema = {**events, **dict.fromkeys(limits.columns, pl.Boolean())}
    for name in limits.columns:
        if name in events:
            raise PackError(f"column {name!r} exists already", where=f"limit column {name}")
    event_levels, waiting = _derive(pack.derived, schema)
    features = plan_features(pack.features, pack.windows, schema)
    schema |= dict.fromkeys(features.columns, pl.Float64())
    feature_levels = _derive_all(waiting, schema)
    for name in ANOMALY_COLUMNS:
        if name in schema:
            raise PackError(f"column {name!r} is that of the anomaly model", where=f"column {name}")
    scored_schema, schema = schema, {**schema, **dict.fromkeys(ANOMALY_COLUMNS, pl.Float64())}
    if pack.anomaly is not None:
        check_plan(ScoringPlan(**asdict(pack.anomaly)), scored_schema)
    _check_rules(pack)
    rules = compile_rules([rule for rule in pack.rules if rule.key == USER_SPACE], schema)
    alert_storm, table_pressure, model_drift = compile_built_in(pack.rules)
    shared = None if pack.shared is None else compile_shared(pack, pack.shared, schema, _derive_all)
    derived = {spec.name: parse(spec.sql, schema, "any") for spec in pack.derived}
    needed = _event_columns(limits, features, rules, derived, events)
    if shared is not None:
        needed |= shared.reads & set(events)
    return CompiledPack(
        pack=pack,
        version=pack.version,
        event_columns=needed,
        event_derived=event_levels,
        limits=limits,
        features=features,
        feature_derived=feature_levels,
        rules=rules,
        alert_storm=alert_storm,
        table_pressure=table_pressure,
        model_drift=model_drift,
        scored_schema=scored_schema,
        schema=schema,
        shared=shared,
    )


def _check_rules(pack: Pack) -> None:
    """Refuse an id that two rules have, and rules of a key space that there is not."""
    keys = () if pack.shared is None else tuple(key.name for key in pack.shared.keys)
    spaces = (USER_SPACE, *keys, *((SEGMENT_SPACE, CAMPAIGN_SPACE) if pack.shared else ()))
    seen: set[str] = set()
    for rule in pack.rules:
        where = f"rule {rule.id}"
        if rule.id in seen:
            raise PackError(f"id {rule.id!r} is taken", where=where, hint="choose another id")
        if rule.key not in spaces:
            hint = near_match(rule.key, spaces) or f"key spaces are {', '.join(spaces)}"
            raise PackError(f"unknown key space {rule.key!r}", where=where, hint=hint)
        if rule.key not in (USER_SPACE, CAMPAIGN_SPACE) and rule.action is not None:
            raise PackError(
                f"a decision is about users, the rule about the key space {rule.key!r}",
                where=where,
                hint="leave out 'action'",
            )
        seen.add(rule.id)


def _derive_all(
    specs: Sequence[DerivedSpec], schema: dict[str, pl.DataType]
) -> tuple[tuple[pl.Expr, ...], ...]:
    """Levels of derived columns, all of which ``schema`` must be able to carry."""
    levels, waiting = _derive(specs, schema)
    if waiting:
        _explain(waiting[0], schema)
    return levels


def _derive(
    specs: Sequence[DerivedSpec], schema: dict[str, pl.DataType]
) -> tuple[tuple[tuple[pl.Expr, ...], ...], list[DerivedSpec]]:
    """Levels of derived columns that ``schema`` can carry (added to it), and those left over."""
    levels: list[tuple[pl.Expr, ...]] = []
    waiting = list(specs)
    while waiting:
        level: dict[str, Expression] = {}
        later: list[DerivedSpec] = []
        for spec in waiting:
            if spec.name in schema or spec.name in level:
                raise PackError(
                    f"column {spec.name!r} exists already", where=f"derived {spec.name}"
                )
            try:
                level[spec.name] = parse(spec.sql, schema, "any")
            except ExpressionError as error:
                if not error.unknown_column:
                    raise PackError(str(error), where=f"derived {spec.name}") from error
                later.append(spec)
        if not level:
            break
        schema |= {name: expression.dtype for name, expression in level.items()}
        levels.append(tuple(expression.expr.alias(name) for name, expression in level.items()))
        waiting = later
    return tuple(levels), waiting


def _explain(spec: DerivedSpec, schema: Mapping[str, pl.DataType]) -> None:
    try:
        parse(spec.sql, schema, "any")
    except ExpressionError as error:
        raise PackError(str(error), where=f"derived {spec.name}") from error


def _event_columns(
    limits: LimitsPlan,
    features: FeaturePlan,
    rules: Rules,
    derived: Mapping[str, Expression],
    events: Mapping[str, pl.DataType],
) -> frozenset[str]:
    read = set(CORE_COLUMNS) | set(CONTEXT_COLUMNS) | limits.reads | features.reads
    read |= {column for rule in rules.rules for column in rule.when.columns}
    read |= {column for expression in derived.values() for column in expression.columns}
    return frozenset(read & set(events))
