"""The dashboard can be imported as it is, and asks for nothing that a server does not expose."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.conftest import DEPLOY
from tests.deploy.promql import misuses
from tests.deploy.test_prometheus import promtool

DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana" / "triscale.json").read_text())
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES: list[tuple[str, str]] = [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]
QUERIES += [(each["name"], each["expr"]) for each in DASHBOARD["annotations"]["list"]]


def filled(expression: str) -> str:
    """As Grafana would send it."""
    return expression.replace("$__rate_interval", "1m").replace("$pipeline", "ocr")


@pytest.mark.parametrize(("panel", "expression"), QUERIES, ids=[f"{i}-{title}" for i, (title, _) in enumerate(QUERIES)])
def test_a_query_refers_only_to_what_a_server_exposes(
    panel: str, expression: str, series: Mapping[str, frozenset[str]]
) -> None:
    assert misuses(filled(expression), series, frozenset()) == []
    assert 'pipeline="$pipeline"' in expression, f"{panel} mixes the pipelines of all servers"
    assert "$" not in filled(expression)


def test_every_metric_is_shown_but_for_those_that_others_say_better(series: Mapping[str, frozenset[str]]) -> None:
    shown = " ".join(expression for _, expression in QUERIES)
    families = {name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count") for name in series}
    missing = {name for name in families if name not in shown}
    assert missing == {
        "triscale_build_info",
        "triscale_requests_live",
        "triscale_requests_partial_total",
        "triscale_stage_items_total",
        "triscale_stage_items_running",
        "triscale_stage_batches_total",
        "triscale_stage_busy_core_seconds_total",
        "triscale_demand_measured",
        "triscale_plan_served_fraction",
    }


def test_panels_do_not_overlap_and_fill_the_width() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = set(itertools.product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])))
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
    rows = {y for _, y in taken}
    assert rows == set(range(max(rows) + 1))


def test_it_works_with_any_prometheus_and_any_pipeline() -> None:
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert (variables["datasource"]["type"], variables["datasource"]["query"]) == ("datasource", "prometheus")
    assert variables["pipeline"]["definition"] == "label_values(triscale_slo_seconds, pipeline)"
    assert DASHBOARD["id"] is None, "an id belongs to one Grafana"
    for panel in PANELS:
        assert {source["uid"] for source in (panel["datasource"], *(t["datasource"] for t in panel["targets"]))} == {
            "${datasource}"
        }


def test_panels_have_a_unit_a_sentence_and_an_id_of_their_own() -> None:
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    for panel in PANELS:
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["description"].endswith("."), panel["title"]


def test_promtool_accepts_every_query(tmp_path: Path) -> None:
    rules = [{"record": f"dashboard:query:{i}", "expr": filled(query)} for i, (_, query) in enumerate(QUERIES)]
    (tmp_path / "queries.yml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    result = promtool("check", "rules", "queries.yml", folder=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
