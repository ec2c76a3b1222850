"""Alerts about the detection itself: rules, models, volumes, and how much is decided."""

from __future__ import annotations

from typing import Final

from dashboards.objectives import DECISION_SHARE_MAX, DRIFT_PSI_MAX
from dashboards.rules.liveness import WORKER_JOB
from dashboards.rules.model import Alert, Case, Group
from dashboards.rules.recording import DECISIONS

__all__ = ["DETECTION", "VOLUME_RULES"]

VOLUME_RULES: Final = ("volume-surge", "volume-collapse")
"""The rules of the default pack about segments of the stream."""

_JOB: Final = {"job": WORKER_JOB}
_OF: Final = f'job="{WORKER_JOB}", instance="a"'
_ERRORS: Final = f'floodwatch_rule_errors_total{{{_OF}, rule="share-flood"}}'
_SHED: Final = f'floodwatch_shed_findings_total{{{_OF}, rule="share-flood"}}'
_EVENTS: Final = f'floodwatch_events_total{{{_OF}, type="share.created"}}'
_DECIDED: Final = (
    f'floodwatch_decisions_total{{{_OF}, kind="throttle", scope="share", made_by="rule", '
    'reason="share-flood"}'
)


def _psi(partition: int) -> str:
    labels = f'{_OF}, feature="shares_1h", partition="{partition}"'
    return f"floodwatch_model_drift_psi{{{labels}}}"


def _alerts(rule: str, mode: str) -> str:
    labels = f'{_OF}, rule="{rule}", severity="medium", mode="{mode}"'
    return f"floodwatch_alerts_total{{{labels}}}"


_RULE_ERRORS: Final = Alert(
    name="FloodwatchRuleErrors",
    expr="sum by (job, rule) (increase(floodwatch_rule_errors_total[15m])) > 0",
    audience="ticket",
    summary="A rule cannot be evaluated",
    description="Rule {{ $labels.rule }} failed on {{ $value | humanize }} batches in 15 minutes: "
    "it found nothing in them.",
    dashboard="floodwatch-detection",
    topic="rule-errors",
    cases=(
        Case(
            {_ERRORS: "0x5 0+1x20"},
            "20m",
            {**_JOB, "rule": "share-flood"},
            "Rule share-flood failed on 14 batches in 15 minutes: it found nothing in them.",
        ),
        Case({_ERRORS: "3x40"}, "20m"),
    ),
)

_FINDINGS_SHED: Final = Alert(
    name="FloodwatchFindingsShed",
    expr="sum by (job, rule) (increase(floodwatch_shed_findings_total[10m])) > 0",
    audience="ticket",
    summary="A rule finds more than it may tell",
    description="{{ $value | humanize }} findings of rule {{ $labels.rule }} made neither alert "
    "nor decision in ten minutes: it reached its bound.",
    dashboard="floodwatch-enforcement",
    topic="alert-storm",
    cases=(
        Case(
            {_SHED: "0x5 0+30x20"},
            "20m",
            {**_JOB, "rule": "share-flood"},
            "300 findings of rule share-flood made neither alert nor decision in ten "
            "minutes: it reached its bound.",
        ),
        Case({_SHED: "90x40"}, "20m"),
    ),
)

_MANY_DECISIONS: Final = Alert(
    name="FloodwatchThrottleCapReached",
    expr=f"{DECISIONS} > {DECISION_SHARE_MAX:g}",
    audience="page",
    summary="Far too many actions are throttled or blocked",
    description="{{ $value | humanizePercentage }} of the events of the last ten minutes ended "
    f"in a throttle or a block; {DECISION_SHARE_MAX:.0%} is the cap.",
    dashboard="floodwatch-enforcement",
    pending="5m",
    topic="throttle-cap",
    cases=(
        Case(
            {_EVENTS: "0+1000x40", _DECIDED: "0+100x40"},
            "30m",
            _JOB,
            "10% of the events of the last ten minutes ended in a throttle or a block; 5% "
            "is the cap.",
        ),
        Case({_EVENTS: "0+1000x40", _DECIDED: "0+40x40"}, "30m"),
    ),
)

_MODEL_DRIFT: Final = Alert(
    name="FloodwatchModelDrift",
    expr=f"max by (job, feature) (floodwatch_model_drift_psi) > {DRIFT_PSI_MAX:g}",
    audience="ticket",
    summary="The anomaly model no longer fits what people do",
    description="Feature {{ $labels.feature }} is spread otherwise than when the model was "
    'trained: its stability index is {{ printf "%.2f" $value }}.',
    dashboard="floodwatch-detection",
    pending="15m",
    topic="drift",
    cases=(
        Case(
            {_psi(0): "0.1x40", _psi(1): "0.4x40"},
            "30m",
            {**_JOB, "feature": "shares_1h"},
            "Feature shares_1h is spread otherwise than when the model was trained: its "
            "stability index is 0.40.",
        ),
        Case({_psi(0): "0.1x40", _psi(1): "0.2x40"}, "30m"),
    ),
)

_VOLUME: Final = Alert(
    name="FloodwatchVolumeAnomaly",
    expr="sum by (job, rule) (increase(floodwatch_alerts_total"
    f'{{rule=~"{"|".join(VOLUME_RULES)}", mode="live"}}[15m])) > 0',
    audience="ticket",
    summary="A kind of traffic is far from its usual volume",
    description="{{ $value | humanize }} alerts of {{ $labels.rule }} in 15 minutes: some model, "
    "country or channel has far more or far less traffic than usual.",
    dashboard="floodwatch-detection",
    topic="volume",
    cases=(
        Case(
            {_alerts("volume-surge", "live"): "0x5 0+1x20"},
            "20m",
            {**_JOB, "rule": "volume-surge"},
            "14 alerts of volume-surge in 15 minutes: some model, country or channel has "
            "far more or far less traffic than usual.",
        ),
        Case(
            {
                _alerts("volume-surge", "shadow"): "0+1x40",
                _alerts("share-flood", "live"): "0+1x40",
            },
            "20m",
        ),
    ),
)

DETECTION: Final = Group(
    "floodwatch-detection",
    (_RULE_ERRORS, _FINDINGS_SHED, _MANY_DECISIONS, _MODEL_DRIFT, _VOLUME),
)
