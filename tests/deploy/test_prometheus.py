"""The alert rules refer to what a server exposes, are valid, and fire when they say."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.conftest import DEPLOY
from tests.deploy.promql import misuses

PROMETHEUS = DEPLOY / "prometheus"
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"] for rule in group["rules"]
]
RECORDED = frozenset(rule["record"] for rule in RULES if "record" in rule)
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
TESTS: list[dict[str, Any]] = yaml.safe_load((PROMETHEUS / "alerts_test.yml").read_text())["tests"]


def promtool(*arguments: str, folder: Path = PROMETHEUS) -> subprocess.CompletedProcess[str]:
    path = shutil.which("promtool")
    if path is None:
        pytest.skip("promtool is not installed; it comes with Prometheus (Debian: `apt-get install prometheus`)")
    return subprocess.run([path, *arguments], cwd=folder, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("alert") or rule["record"])
def test_a_rule_refers_only_to_what_a_server_exposes(
    rule: dict[str, Any], series: Mapping[str, frozenset[str]]
) -> None:
    assert misuses(rule["expr"], series, RECORDED) == []


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("triscale_no_such_thing > 1", "triscale_no_such_thing is not exposed"),
        ('triscale_slo_seconds{stage="a"} > 1', "triscale_slo_seconds has no label stage"),
        ("sum by (stage) (triscale_slo_seconds)", "nothing in it has a label stage"),
        ("pipeline:triscale_late:ratio > 1", "pipeline:triscale_late:ratio is not recorded"),
        (
            "triscale_requests_total > 1",
            "triscale_requests_total is a counter, and is used without rate() or increase()",
        ),
        ("histogram_quantile(0.9, triscale_slo_seconds)", "histogram_quantile needs `sum by (le, ...)` of buckets"),
        ("up == 0", "it refers to no metric of triscale's"),
    ],
)
def test_a_rule_that_refers_to_something_else_would_be_found(
    expression: str, problem: str, series: Mapping[str, frozenset[str]]
) -> None:
    assert misuses(expression, series, RECORDED) == [problem]


def test_every_alert_says_how_bad_it_is_and_what_to_do() -> None:
    for name, rule in ALERTS.items():
        assert rule["labels"]["severity"] in ("critical", "warning"), name
        assert {"summary", "description"} <= set(rule["annotations"]), name
        used = set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"])))
        assert used <= {"pipeline", "stage", "variant"}, name


def test_every_alert_is_tested_to_fire_and_not_to_fire() -> None:
    cases = [case for test in TESTS for case in test.get("alert_rule_test", [])]
    fires = {case["alertname"] for case in cases if case["exp_alerts"]}
    rests = {case["alertname"] for case in cases if not case["exp_alerts"]}
    assert fires == rests == set(ALERTS)


def test_promtool_accepts_the_rules() -> None:
    result = promtool("check", "rules", "alerts.yml")
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_alerts_fire_when_they_say() -> None:
    result = promtool("test", "rules", "alerts_test.yml")
    assert result.returncode == 0, result.stdout + result.stderr
