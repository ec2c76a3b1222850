"""The files of a pack as pydantic models: names, types and bounds of every key.

What one entry alone can get wrong is refused here; what concerns several (duplicates, unknown
windows, SQL) is checked by ``monitor.packs.loader``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal, Self, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from monitor.durations import parse_duration_ms

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "MAX_CASE_EVENTS",
    "MAX_PANES",
    "ActionModel",
    "CaseModel",
    "DerivedModel",
    "FeatureModel",
    "FeaturesFile",
    "LimitModel",
    "LimitsFile",
    "RuleModel",
    "RulesFile",
    "SegmentModel",
    "SharedFile",
    "SharedKeyModel",
    "StepModel",
    "WindowModel",
]

MAX_CASE_EVENTS: Final = 20_000
MAX_PANES: Final = 48
_MAX_CYCLE: Final = 64


def _between(least: str, most: str) -> Callable[[object], int]:
    least_ms, most_ms = parse_duration_ms(least), parse_duration_ms(most)

    def parse(text: object) -> int:
        duration_ms = parse_duration_ms(text)
        if not least_ms <= duration_ms <= most_ms:
            raise ValueError(f"{text} is outside {least} to {most}")
        return duration_ms

    return parse


def _rhythm(given: object) -> tuple[int, ...]:
    """One duration, or a list of durations to cycle through."""
    parse = _between("0s", "7d")
    durations = given if isinstance(given, list) else [given]
    if not 1 <= len(durations) <= _MAX_CYCLE:
        raise ValueError(f"{len(durations)} durations, 1 to {_MAX_CYCLE} expected")
    return tuple(parse(duration) for duration in durations)


Scalar: TypeAlias = str | int | float | bool | None
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=48)]
Identifier = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=64)]
Sql = Annotated[str, Field(min_length=1, max_length=4_096)]
Text = Annotated[str, Field(max_length=400)]
Cooldown = Annotated[int, BeforeValidator(_between("10s", "7d"))]
Period = Annotated[int, BeforeValidator(_between("1s", "30d"))]
Step = Annotated[int, BeforeValidator(_between("0s", "7d"))]
Rhythm = Annotated[tuple[int, ...], BeforeValidator(_rhythm)]
Age = Annotated[int, BeforeValidator(_between("0s", "10000d"))]
Allowance = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class WindowModel(_Strict):
    """How a window is cut into panes; its name is its length."""

    panes: Annotated[int, Field(ge=2, le=MAX_PANES)]


class FeatureModel(_Strict):
    """A number kept per user."""

    name: Name
    kind: Literal["count", "sum", "distinct", "gap"]
    where: Sql = "true"
    of: Sql | None = None
    windows: Annotated[list[str], Field(min_length=1, max_length=8)]
    capacity: Annotated[int, Field(ge=1, le=256)] | None = None
    doc: Text = ""

    @model_validator(mode="after")
    def _of_fits_kind(self) -> Self:
        if self.kind in ("sum", "distinct") and self.of is None:
            raise ValueError(f"kind '{self.kind}' needs 'of': what is to be counted")
        if self.kind in ("count", "gap") and self.of is not None:
            raise ValueError(f"kind '{self.kind}' takes no 'of'")
        if self.kind != "distinct" and self.capacity is not None:
            raise ValueError(f"kind '{self.kind}' takes no 'capacity', only 'distinct' does")
        return self


class DerivedModel(_Strict):
    """A column computed from columns of the same row."""

    name: Name
    sql: Sql
    doc: Text = ""


class AnomalyModel(_Strict):
    """What an anomaly model looks at."""

    where: Sql
    every_ms: Annotated[Cooldown, Field(alias="every")]
    features: Annotated[list[Name], Field(min_length=1, max_length=256)]


class FeaturesFile(_Strict):
    """``features.yaml``."""

    windows: Annotated[dict[str, WindowModel], Field(min_length=1, max_length=8)]
    derived: Annotated[list[DerivedModel], Field(max_length=256)] = []
    features: Annotated[list[FeatureModel], Field(min_length=1, max_length=256)]
    anomaly: AnomalyModel | None = None


class SharedKeyModel(_Strict):
    """A key that several users touch."""

    name: Name
    column: Name
    where: Sql = "true"
    form: Annotated[Literal["text", "network", "bands"], Field(alias="as")] = "text"
    lasting: bool = False
    doc: Text = ""


class SegmentModel(_Strict):
    """A part of the traffic whose volume is watched, or one for each value of a column."""

    name: Name
    column: Name | None = None
    where: Sql = "true"
    doc: Text = ""


class TraitModel(_Strict):
    """What a user may be; told of campaigns."""

    name: Name
    where: Sql
    doc: Text


class SharedFile(_Strict):
    """``shared.yaml``; a pack need not have one."""

    keys: Annotated[list[SharedKeyModel], Field(min_length=1, max_length=32)]
    windows: Annotated[dict[str, WindowModel], Field(min_length=1, max_length=8)]
    derived: Annotated[list[DerivedModel], Field(max_length=256)] = []
    features: Annotated[list[FeatureModel], Field(min_length=1, max_length=256)]
    segments: Annotated[list[SegmentModel], Field(max_length=64)] = []
    traits: Annotated[list[TraitModel], Field(max_length=8)] = []


class ActionModel(_Strict):
    """What a rule's decision does."""

    kind: Literal["warn", "throttle", "block"]
    scope: Name
    duration_ms: Annotated[Cooldown, Field(alias="for")]


class StepModel(BaseModel):
    """Events of a case: ``times`` repetitions; every other key is an event column.

    A list of values (or of durations in ``every``) is cycled through.
    """

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    times: Annotated[int, Field(ge=1, le=MAX_CASE_EVENTS)] = 1
    every_ms: Annotated[Rhythm, Field(alias="every")] = (1_000,)
    at_ms: Annotated[Step, Field(alias="at")] = 0
    account_age_ms: Annotated[Age | None, Field(alias="account_age")] = None
    account_idle_ms: Annotated[Age | None, Field(alias="account_idle")] = None


class CaseModel(_Strict):
    """A test of a rule: one row of columns, or events."""

    name: Annotated[str, Field(min_length=1, max_length=120)]
    fires: bool
    columns: dict[str, Scalar] | None = None
    events: Annotated[list[StepModel], Field(min_length=1, max_length=64)] | None = None

    @model_validator(mode="after")
    def _columns_or_events(self) -> Self:
        if (self.columns is None) == (self.events is None):
            raise ValueError("a case has either 'columns' (one row) or 'events'")
        count = sum(step.times for step in self.events or ())
        if count > MAX_CASE_EVENTS:
            raise ValueError(f"{count} events, {MAX_CASE_EVENTS} at most in a case")
        return self


class RuleModel(_Strict):
    """A rule with its cases."""

    id: Identifier
    title: Annotated[str, Field(min_length=1, max_length=120)]
    when: Sql
    key: Name = "user"
    severity: Literal["info", "low", "medium", "high", "critical"]
    mode: Literal["live", "shadow"] = "live"
    cooldown: Cooldown
    action: ActionModel | None = None
    runbook: Annotated[str, Field(pattern=r"^[\w./-]+\.md$|^https://\S+$", max_length=400)]
    tags: Annotated[list[Identifier], Field(max_length=16)] = []
    cases: Annotated[list[CaseModel], Field(max_length=64)]

    @model_validator(mode="after")
    def _cases_of_both_kinds(self) -> Self:
        if {case.fires for case in self.cases} != {True, False}:
            missing = "false" if any(case.fires for case in self.cases) else "true"
            raise ValueError(
                f"no case with 'fires: {missing}': a rule needs at least one case "
                "that must fire and one that must not"
            )
        return self


class RulesFile(_Strict):
    """``rules.yaml``."""

    rules: Annotated[list[RuleModel], Field(min_length=1, max_length=256)]


class LimitModel(_Strict):
    """A rate limit; ``allow`` by tier."""

    name: Name
    action: Name
    per: Period
    quantity: Sql = "1"
    allow: Annotated[dict[Name, Allowance], Field(min_length=1, max_length=16)]


class LimitsFile(_Strict):
    """``limits.yaml``."""

    default_tier: Name
    decision: Period
    actions: Annotated[dict[Name, Sql], Field(min_length=1, max_length=16)]
    limits: Annotated[list[LimitModel], Field(min_length=1, max_length=32)]
