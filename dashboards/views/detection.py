"""Detection: rules, severities, noise, anomaly scores, drift, campaigns."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Panel

from dashboards import objectives as limit
from dashboards.frame import View
from dashboards.look import BAD, GOOD, SEVERITIES, WORSE
from dashboards.panels import Column, bars, columns, lines, number, rows, too_much
from dashboards.query import by_range, of, prom
from dashboards.rules.detection import VOLUME_RULES

__all__ = ["detection"]

_LIVE = 'mode="live"'
_SHADOW = 'mode="shadow"'


def detection() -> View:
    """For whoever owns the rules and the models."""
    return View(
        uid="floodwatch-detection",
        title="Floodwatch / Detection",
        says="What the rules find, how loud they are, and whether the models still fit.",
        sections=(
            ("Rules", (*_alerts(), *_rules())),
            ("Anomaly models", _models()),
            ("Acting together, and volumes", _together()),
        ),
    )


def _per_minute(label: str, metric: str, *matchers: str) -> str:
    return f"60 * sum by ({label}) (rate({of(metric, *matchers)}[$__rate_interval]))"


def _alerts() -> tuple[Panel, ...]:
    return (
        columns(
            "Alerts a minute, by severity",
            "Live alerts. A step: find the rule in the table and read its runbook.",
            [prom(_per_minute("severity", "floodwatch_alerts_total", _LIVE), "{{severity}}")],
            unit="cpm",
            colours=SEVERITIES,
            size=(9, 8),
        ),
        columns(
            "Alerts a minute, loudest rules",
            "Which rule makes the step. One alone that is loud for hours: tune it "
            "(runbooks, “A rule is too loud”).",
            [
                prom(
                    f"topk(6, {_per_minute('rule', 'floodwatch_alerts_total', _LIVE)}) > 0",
                    "{{rule}}",
                )
            ],
            unit="cpm",
            size=(9, 8),
        ),
        number(
            "Findings per alert",
            "How much cooldown holds back. In the hundreds: few actors go on and on; throttle "
            "them (Enforcement) instead of waiting.",
            prom(
                f"sum({by_range('job', 'floodwatch_findings_total', _LIVE)}) / "
                f"sum({by_range('job', 'floodwatch_alerts_total', _LIVE)})",
                instant=True,
            ),
            unit="none",
            decimals=1,
            size=(6, 4),
        ),
        number(
            "Rules that fail",
            "Evaluations that failed in the time range: these rules found nothing in those "
            "batches. Above 0: the worker's log names the column; mend the pack.",
            prom(f"sum(increase({of('floodwatch_rule_errors_total')}[$__range]))", instant=True),
            unit="none",
            decimals=0,
            steps=too_much(bad=1),
            size=(6, 4),
        ),
    )


def _rules() -> tuple[Panel, ...]:
    findings = by_range("rule", "floodwatch_findings_total", _LIVE)
    alerts = by_range("rule, severity", "floodwatch_alerts_total", _LIVE)
    return (
        rows(
            "Rules",
            "What each live rule did in the time range. Many findings per alert: a few actors; "
            "shed above 0: it reached its bound, nobody was told of the rest.",
            [
                prom(f"{alerts} > 0", instant=True, rows=True),
                prom(f"{findings} > 0", instant=True, rows=True),
                prom(by_range("rule", "floodwatch_shed_findings_total"), instant=True, rows=True),
            ],
            (
                Column("rule", width=230),
                Column("severity", width=90, colours=SEVERITIES),
                Column("Value #A", "alerts", unit="short", decimals=0, width=80),
                Column("Value #B", "findings", unit="short", decimals=0, width=90),
                Column(
                    "Value #C", "shed", unit="short", decimals=0, steps=((None, GOOD), (1, BAD))
                ),
            ),
            size=(12, 10),
            sort="alerts",
        ),
        bars(
            "What shadow rules would have said",
            "Alerts of rules in shadow mode, in the time range. Quiet for a week and right when "
            "sampled: set mode: live. Louder than its live neighbours: not yet.",
            [
                prom(
                    f"topk(10, {by_range('rule', 'floodwatch_alerts_total', _SHADOW)})",
                    "{{rule}}",
                    instant=True,
                )
            ],
            unit="none",
            decimals=0,
            size=(12, 10),
            nothing="No rule is in shadow mode",
        ),
    )


def _models() -> tuple[Panel, ...]:
    scored, anomalous = (
        f"sum(rate({of(f'floodwatch_{name}_events_total')}[$__rate_interval]))"
        for name in ("scored", "anomalous")
    )
    return (
        lines(
            "Scored events a second",
            "How often the model looks. 0 while events arrive: no champion is loaded "
            "(floodwatch model list).",
            [prom(scored, "scored")],
            unit="cps",
            size=(6, 8),
        ),
        columns(
            "Share of anomalous scores",
            "Of the scored events, those at or above the rank at which the model was calibrated "
            "to alert. A step up without a step in the drift beside: people behave oddly. With "
            "drift: the model is stale.",
            [prom(f"{anomalous} / {scored}", "anomalous")],
            unit="percentunit",
            size=(6, 8),
        ),
        bars(
            "Drift of features",
            "Population stability of the last full hour, the worst partition of each feature. "
            f"Above {limit.DRIFT_PSI_MAX:g}: train anew on recent days "
            "(runbook floodwatch.model-drift).",
            [
                prom(
                    f"topk(10, max by (feature) ({of('floodwatch_model_drift_psi')}))",
                    "{{feature}}",
                    instant=True,
                )
            ],
            unit="none",
            decimals=2,
            steps=too_much(0.1, limit.DRIFT_PSI_MAX),
            size=(6, 8),
            nothing="No full hour was judged yet",
        ),
        columns(
            "Where champion and challenger differ",
            "Scored events a minute at which one of the two alone would alert. The challenger "
            "alone, often: compare before promoting (floodwatch model compare).",
            [prom(_per_minute("alone", "floodwatch_model_disagreements_total"), "{{alone}} alone")],
            unit="cpm",
            size=(6, 8),
        ),
    )


def _together() -> tuple[Panel, ...]:
    return (
        columns(
            "Campaigns a minute",
            "Groups of users who act together, by what became of them. Opened without closed: "
            "they go on; open Incidents, rule coordinated-group.",
            [prom(_per_minute("state", "floodwatch_campaigns_total"), "{{state}}")],
            unit="cpm",
            colours={"opened": BAD, "updated": WORSE, "closed": GOOD},
            size=(8, 8),
        ),
        lines(
            "Traces a second, by shared key",
            "Who touched which asset, prompt, device, address. One kind that doubles: a crowd on "
            "one key; rule swarm says which.",
            [
                prom(
                    f"sum by (key_space) (rate({of('floodwatch_traces_total')}[$__rate_interval]))",
                    "{{key_space}}",
                )
            ],
            unit="cps",
            size=(8, 8),
        ),
        columns(
            "Volume alerts a minute",
            "Segments of the stream (a model, a country, a channel) with far more or less "
            "traffic than usual. Both at once: a release. A collapse alone: a producer stopped.",
            [
                prom(
                    _per_minute(
                        "rule",
                        "floodwatch_alerts_total",
                        f'rule=~"{"|".join(VOLUME_RULES)}"',
                    ),
                    "{{rule}}",
                )
            ],
            unit="cpm",
            size=(8, 8),
        ),
    )
