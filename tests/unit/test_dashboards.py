"""The dashboards: made of the code, valid, and by the rules of Grafana's dashboard-linter.

The linter (github.com/grafana/dashboard-linter) is a Go program; its rules are small and are
applied here, under their names. What is excepted says why.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping
from typing import Any, Final

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import Dashboard, Panel, RowPanel

from dashboards import objectives
from dashboards.catalogue import dashboard_files
from dashboards.look import KINDS, SEVERITIES
from dashboards.rules.catalogue import RECORDED
from detectors.pack import SEVERITIES as ALL_SEVERITIES
from tests.support.dashboards import (
    FOLDER,
    Target,
    dashboards,
    exported_names,
    metric_names,
    targets,
)

NAMES: Final = ("detection", "enforcement", "incidents", "overview", "pipeline")
ALL_PANELS: Final[list[tuple[str, Mapping[str, Any]]]] = [
    (name, panel)
    for name, dashboard in dashboards().items()
    for panel in dashboard["panels"]
    if panel["type"] != "row"
]
PANELS: Final = [pytest.param(p, id=f"{name}: {p['title']}") for name, p in ALL_PANELS]
TARGETS: Final = [pytest.param(target, id=" / ".join(target.identity)) for target in targets()]
QUERIES: Final = [
    pytest.param(target, id=" / ".join(target.identity))
    for target in targets()
    if "expr" in target.query
]
RECORDED_NAMES: Final = {rule.name for group in RECORDED for rule in group.rules}

# Exceptions from the linter's rules.
NO_INSTANCE: Final = "recorded series, and alerts, are of a job; they have no instance"
OVER_THE_RANGE: Final = "what happened in the time range shown, so over all of it"
AS_THE_ALERT: Final = "asks what the alert asks, over the alert's own window"
OTHER_WINDOWS: Final = {
    ("overview", "Is the monitor healthy?", "F"): AS_THE_ALERT,
    ("overview", "Is the monitor healthy?", "H"): AS_THE_ALERT,
}
TWO_SOURCES: Final = "the SQL source is called $store; $datasource is asked for by name"


def test_every_file_is_what_the_code_makes() -> None:
    """`make dashboards` writes them anew."""
    made = {path.name: text for path, text in dashboard_files()}
    found = {p.name: p.read_text(encoding="utf-8") for p in (FOLDER / "grafana").glob("*.json")}
    assert found == made
    assert sorted(dashboards()) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_json_is_valid_by_the_types_of_the_sdk(name: str) -> None:
    """Read into its types and written again, nothing is added, lost or changed."""
    register_default_plugins()
    document = dashboards()[name]
    read = Dashboard.from_json(dict(document))
    assert all(isinstance(panel, Panel | RowPanel) for panel in read.panels or [])
    assert json.loads(json.dumps(read, cls=JSONEncoder)) == document


@pytest.mark.parametrize("name", NAMES)
def test_panels_fit_the_grid_and_do_not_overlap(name: str) -> None:
    """24 columns, every line full or free."""
    taken: dict[tuple[int, int], str] = {}
    ids = []
    for panel in dashboards()[name]["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        ids.append(panel["id"])
        for cell in itertools.product(
            range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
        ):
            assert cell not in taken, f"{panel['title']} lies on {taken[cell]}"
            taken[cell] = panel["title"]
    assert len(set(ids)) == len(ids)
    height = max(y for _, y in taken) + 1
    holes = 24 * height - len(taken)
    assert holes <= 0.03 * 24 * height, f"{holes} cells of the grid are empty"


@pytest.mark.parametrize("name", NAMES)
def test_links_between_dashboards_keep_the_time_range_and_the_variables(name: str) -> None:
    (link,) = dashboards()[name]["links"]
    assert link["type"] == "dashboards"
    assert link["keepTime"]
    assert link["includeVars"]
    assert set(link["tags"]) <= set(dashboards()[name]["tags"])


def test_titles_are_said_once_and_descriptions_say_what_to_do() -> None:
    """A description that could stand at any panel helps nobody at three in the morning."""
    seen: dict[str, str] = {}
    for _, panel in ALL_PANELS:
        text = panel["description"]
        assert 40 <= len(text) <= 300, panel["title"]
        assert ":" in text or ";" in text, f"{panel['title']}: no condition and what to do then"
        assert text not in seen, f"{panel['title']} and {seen.get(text)} say the same"
        seen[text] = panel["title"]


@pytest.mark.parametrize("target", QUERIES)
def test_every_metric_of_a_query_is_exported(target: Target) -> None:
    """By a worker, a store service, or a recording rule."""
    unknown = metric_names(target.query["expr"]) - exported_names() - RECORDED_NAMES
    assert not unknown


def test_severities_have_the_same_colours_everywhere() -> None:
    """Those of ``look``; no severity is without one."""
    assert set(SEVERITIES) == set(ALL_SEVERITIES) - {"info"}
    for _, panel in ALL_PANELS:
        for override in panel["fieldConfig"]["overrides"]:
            name = override["matcher"]["options"]
            for entry in override["properties"]:
                wanted = {**SEVERITIES, **KINDS}.get(name)
                if entry["id"] == "color" and wanted:
                    assert entry["value"]["fixedColor"] == wanted, panel["title"]


def test_thresholds_are_those_of_the_alerts() -> None:
    """Where a panel turns red, the alert about it fires: the constants are the same ones."""
    red = {
        "99 % of events within": objectives.EVENT_DELAY_MAX_S,
        "Longest standstill": objectives.STALLED_MAX_S,
        "Oldest unsaved work": objectives.CHECKPOINT_AGE_MAX_S,
        "Share of dead letters": objectives.DEAD_LETTER_SHARE_PAGE,
        "Too late to count": objectives.LATE_SHARE_MAX,
        "Drift of features": objectives.DRIFT_PSI_MAX,
        "Share of events throttled": objectives.DECISION_SHARE_MAX,
        "Memory": objectives.MEMORY_BYTES_MAX,
        "How fast the delay budget burns": objectives.BURN_RATES[0].factor,
    }
    found = {}
    for _, panel in ALL_PANELS:
        steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
        found[panel["title"]] = steps[-1].get("value")
    assert {title: found[title] for title in red} == red


# --- the rules of dashboard-linter ---------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_template_datasource_rule(name: str) -> None:
    """A data source to choose, called ``datasource``. Excepted: see ``TWO_SOURCES``."""
    sources = {v["name"]: v for v in _variables(name) if v["type"] == "datasource"}
    assert sources["datasource"]["label"] == "Data source"
    assert sources["datasource"]["query"] == "prometheus"
    assert set(sources) <= {"datasource", "store"}, TWO_SOURCES


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("label", ["job", "instance"])
def test_template_job_rule_and_template_instance_rule(name: str, label: str) -> None:
    (variable,) = (v for v in _variables(name) if v["name"] == label)
    assert variable["type"] == "query"
    assert variable["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert variable["label"] == label.title()
    assert variable["multi"]
    assert variable["includeAll"]
    assert variable["allValue"]


@pytest.mark.parametrize("name", NAMES)
def test_template_label_promql_rule(name: str) -> None:
    """Excepted are variables of the SQL source, whose query is SQL."""
    for variable in _variables(name):
        if variable["type"] == "query" and variable["datasource"]["type"] == "prometheus":
            assert re.fullmatch(r"label_values\(up\{job=~\".+\"\}, \w+\)", variable["query"])


@pytest.mark.parametrize("name", NAMES)
def test_template_on_time_change_reload_rule(name: str) -> None:
    on_time_range_change = 2
    for variable in _variables(name):
        if variable["type"] == "query":
            assert variable["refresh"] == on_time_range_change, variable["name"]


@pytest.mark.parametrize("name", NAMES)
def test_uneditable_dashboard_rule(name: str) -> None:
    """Who wants a change makes it in the code."""
    assert dashboards()[name]["editable"] is False


@pytest.mark.parametrize("panel", PANELS)
def test_panel_datasource_rule(panel: Mapping[str, Any]) -> None:
    """For every kind of panel, where the linter looks at some."""
    assert panel["datasource"]["uid"] in {"${datasource}", "${store}"}
    for target in panel["targets"]:
        assert target["datasource"] == panel["datasource"]


@pytest.mark.parametrize("panel", PANELS)
def test_panel_title_description_rule(panel: Mapping[str, Any]) -> None:
    assert panel["title"]
    assert panel["description"]


@pytest.mark.parametrize("panel", PANELS)
def test_panel_units_rule(panel: Mapping[str, Any]) -> None:
    """Every unit, of panels and of columns, is one that Grafana has."""
    known = {value for name, value in vars(units).items() if name[0].isupper()}
    used = [panel["fieldConfig"]["defaults"]["unit"]]
    used += [
        entry["value"]
        for override in panel["fieldConfig"]["overrides"]
        for entry in override["properties"]
        if entry["id"] == "unit"
    ]
    assert all(unit in known for unit in used), used


@pytest.mark.parametrize("panel", PANELS)
def test_panel_no_targets_rule(panel: Mapping[str, Any]) -> None:
    assert panel["targets"]


@pytest.mark.parametrize("target", QUERIES)
def test_target_job_rule_and_target_instance_rule(target: Target) -> None:
    """Excepted: see ``NO_INSTANCE``."""
    for name, matchers in re.findall(r"([\w:]+)\{([^}]*)\}", target.query["expr"]):
        if name == "ALERTS":
            continue
        assert 'job=~"$job"' in matchers, name
        assert (":" in name) or 'instance=~"$instance"' in matchers, NO_INSTANCE
    named = metric_names(target.query["expr"])
    assert len(named) <= len(re.findall(r"[\w:]+\{", target.query["expr"])), "one has no matchers"


@pytest.mark.parametrize("target", QUERIES)
def test_target_rate_interval_rule(target: Target) -> None:
    """Excepted: see ``OVER_THE_RANGE`` and ``AS_THE_ALERT``."""
    windows = set(re.findall(r"\[([^\]]+)\]", target.query["expr"]))
    others = windows - {"$__rate_interval", "$__range"}
    assert bool(others) == (target.identity in OTHER_WINDOWS), (OVER_THE_RANGE, AS_THE_ALERT)


@pytest.mark.parametrize("target", QUERIES)
def test_target_counter_agg_rule(target: Target) -> None:
    """A counter is only looked at through rate or increase."""
    expr = re.sub(r'"[^"]*"', '""', target.query["expr"])
    for match in re.finditer(r"\bfloodwatch\w+(?:_total|_bucket|_count|_sum)\{", expr):
        before = expr[: match.start()]
        assert before.endswith(("rate(", "increase(")), match[0]


def test_rules_about_loki_do_not_apply() -> None:
    """target-logql-rule and target-logql-auto-rule: no panel asks Loki."""
    kinds = {target.query["datasource"]["type"] for target in targets()}
    assert kinds == {"prometheus", "grafana-postgresql-datasource"}


@pytest.mark.parametrize("target", TARGETS)
def test_people_type_nothing_into_sql_that_is_not_quoted(target: Target) -> None:
    """Only numbers of Grafana's own stand bare in a query."""
    bare = set(re.findall(r"\$\{?(\w+)(?!\w|:sqlstring)", target.query.get("rawSql", "")))
    assert bare <= {"__from", "__to"}


def _variables(name: str) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = dashboards()[name]["templating"]["list"]
    return found
