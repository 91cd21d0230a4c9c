from __future__ import annotations

import importlib
import math
import re
from typing import Any

import pytest

from tests.unit.observe.page_reading import parsed, text_of
from triscale.errors import ConfigError
from triscale.observe.simulation_comparison import remarks, standings
from triscale.observe.simulation_comparison_report import comparison_headline, render_comparison
from triscale.observe.simulation_document import read_simulation
from triscale.observe.simulation_report import render_simulation
from triscale.observe.simulation_statistics import Interval, interval, student_t
from triscale.observe.simulation_wording import actions_text, duration, figure_text, listed, simulation_headline

WINDOWS = 6
FACTS = {"Pipeline": "shop: detect, <b>name</b>", "Warm-up": ""}


def result(**changes: Any) -> dict[str, Any]:
    """The document of a run of six windows of 2 s, after a warm-up of 2 s."""
    missed = {"late": 4, "dropped": 10, "shed": 6, "failed": 0}
    return {
        "policy": "triscale",
        "pipeline": "shop",
        "slo_ms": 250.0,
        "seed": 3,
        "warmup_s": 2.0,
        "simulated_s": 13.0,
        "arrived": 120,
        "requests": 100,
        "answered": 80,
        "violations": missed,
        "attainment": 0.8,
        "accuracy": 0.95,
        "core_seconds": 55.0,
        "mean_cores": 5.0,
        "latency_ms": {"p50": 80.0, "p95": 190.0, "p99": 260.0, "p99_9": 300.0},
        "items": 900,
        "batches": 300,
        "causes": [
            {"outcome": "dropped", "stage": "detect", "reason": "predicted_late", "requests": 10},
            {"outcome": "shed", "stage": "", "reason": "overloaded", "requests": 6},
            {"outcome": "late", "stage": "", "reason": "", "requests": 4},
        ],
        "actions": {"plan": 2, "launch": 1, "resize": 0, "drain": 3},
        "decisions": [
            decision(0.0, "the expected demand", "hardware"),
            decision(4.0, "a peak of <20> requests/s", "accuracy"),
        ],
        "problems": ["nothing would serve 3 requests"],
        "series": series(),
        "wall_s": 1.5,
        **changes,
    }


def decision(t: float, reason: str, mode: str) -> dict[str, Any]:
    return {"t": t, "reason": reason, "demand": 9.5, "capacity": 12.0, "cores": 4.0, "accuracy": 0.97, "mode": mode}


def series() -> dict[str, Any]:
    flat = [1.0] * WINDOWS
    stages = {
        "detect": stage({"big": [5, 5, 0, 0, 5, 5], "small": [0, 0, 5, 5, 0, 0]}, flat),
        "name": stage({"only": [5] * WINDOWS, "spare": [0] * WINDOWS}, [0.0] * WINDOWS),
    }
    return {
        "window_s": 2.0,
        "start_s": 2.0,
        "arrivals": [20] * 5 + [0],
        "answered": [16] * 5 + [0],
        "late": [0, 4, 0, 0, 0, 0],
        "dropped": [4, 0, 4, 2, 0, 0],
        "shed": [0, 0, 0, 2, 4, 0],
        "failed": [0] * WINDOWS,
        "accuracy_sum": [15.2] * 5 + [0.0],
        "p99_ms": [200.0, 260.0, 210.0, 220.0, 230.0, None],
        "cores": [5.0] * WINDOWS,
        "cores_start": [3.0] * WINDOWS,
        "cores_up": flat,
        "cores_out": flat,
        "busy_core_s": [4.0] * WINDOWS,
        "capacity": [0.0, 9.0, 12.0, 12.0, 12.0, 12.0],
        "stages": stages,
    }


def stage(items: dict[str, list[int]], up: list[float]) -> dict[str, Any]:
    zeros = [0.0] * WINDOWS
    return {"cores_start": zeros, "cores_up": up, "cores_out": zeros, "busy_core_s": [2.0] * WINDOWS, "items": items}


def titles(page: str) -> list[str]:
    return re.findall(r"<figure[^>]*><h3>(.*?)</h3>", page)


@pytest.fixture(scope="module")
def page() -> str:
    return render_simulation(result(), FACTS)


@pytest.fixture(scope="module")
def comparison() -> str:
    better = result(policy="loki", seed=3, violations={"dropped": 2}, attainment=0.98, answered=98)
    return render_comparison([result(), better], FACTS, ["hpa: has no such option"])


def test_pages_are_whole_and_load_nothing(page: str, comparison: str) -> None:
    for each in (page, comparison):
        tags = parsed(each)
        assert tags.tags.isdisjoint({"script", "link", "iframe"})
        assert all(source.startswith("#") for source in tags.loaded)
        assert "url(http" not in each
        assert "prefers-color-scheme: dark" in each
        assert 'name="viewport"' in each


def test_the_same_document_gives_the_same_page(page: str, comparison: str) -> None:
    assert render_simulation(result(wall_s=9.0), FACTS) == page
    better = result(policy="loki", seed=3, violations={"dropped": 2}, attainment=0.98, answered=98)
    assert render_comparison([result(), better], FACTS, ["hpa: has no such option"]) == comparison


def test_a_run_is_told_in_plain_words(page: str) -> None:
    text = text_of(page)
    assert "80.0 % of 100 requests answered within 250 ms under triscale" in text
    assert "10 were dropped (could no longer be answered in time) at detect." in text
    assert "nothing would serve 3 requests" in text
    assert "2 plans 1 launch no resizes 3 drains" in text
    assert "p50 80 ms p95 190 ms p99.9 300 ms" in text
    assert "name ran on only alone." in text


def test_a_run_shows_every_plot_that_was_promised(page: str) -> None:
    assert titles(page) == [
        "Arrivals and capacity, requests per second",
        "Violations, requests per second, by when they arrived",
        "Latency of the answers, ms, by when they arrived",
        "Cores held, by how they came",
        "Accuracy, %",
        "Cores at work, by stage",
        "detect: cores",
        "detect: variants, % of its items",
    ]
    assert "up: added to live replicas" in page
    assert "out: of new replicas" in page
    assert "counted from here" in page
    for svg in re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL):
        assert not re.search(r"#0[0-9a-f]{2}fe5", svg), "every colour is one of the page's"


def test_decisions_stand_with_their_reasons_and_what_they_were_short_of(page: str) -> None:
    text = text_of(page)
    assert "The plan was changed 2 times." in text
    assert "0.0 s the expected demand 9.5/s 12/s 4 97.0 % nothing" in text
    assert "4.0 s a peak of &lt;20&gt; requests/s 9.5/s 12/s 4 97.0 % cores: less accurate variants" in text


def test_many_decisions_unfold_and_the_last_of_very_many_are_counted_only() -> None:
    many = [decision(float(t), f"reason {t}", "overload") for t in range(1200)]
    page = render_simulation(result(decisions=many, actions={"plan": 1500}), {})
    assert "<summary>975 more</summary>" in page
    assert "The plan was changed 1,500 times. The first 1,000 that say something new are shown." in text_of(page)
    assert "reason 999" in page
    assert "reason 1000" not in page


def test_causes_stand_with_place_and_share(page: str) -> None:
    text = text_of(page)
    assert "dropped at detect: could no longer be answered in time 10 10.0 %" in text
    assert "shed at the door: no room behind the work already admitted 6 6.0 %" in text


def test_what_users_wrote_is_text(page: str, comparison: str) -> None:
    assert "<b>name</b>" not in page + comparison
    assert "shop: detect, &lt;b&gt;name&lt;/b&gt;" in page


def test_a_fact_without_words_is_left_out(page: str) -> None:
    assert "Warm-up" not in text_of(page)


def test_a_run_without_violations_or_answers_has_a_page() -> None:
    nothing = {name: [0] * WINDOWS for name in ("arrivals", "answered", "late", "dropped", "shed", "failed")}
    quiet = result(
        requests=0,
        answered=0,
        attainment=None,
        accuracy=None,
        violations={},
        causes=[],
        decisions=[],
        latency_ms={},
        series=series() | nothing | {"p99_ms": [None] * WINDOWS, "accuracy_sum": [0.0] * WINDOWS},
    )
    page = render_simulation(quiet, {})
    parsed(page)
    assert "No request was counted under triscale" in text_of(page)
    assert "Violations, requests per second, by when they arrived" not in titles(page)
    parsed(render_comparison([quiet], {}))


def test_without_matplotlib_figures_stand_in_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def without(name: str, package: str | None = None) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", without)
    text = text_of(render_simulation(result(), {}))
    assert "plots need matplotlib" in text
    assert "second arrivals answered late dropped shed failed cores 2 20 16 0 4 0 0 5.0" in text
    assert "plots need matplotlib" in text_of(render_comparison([result()], {}))


def test_what_is_no_result_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"the document is not the result of a simulation: .*`policy`"):
        render_simulation({}, {})
    with pytest.raises(ConfigError, match="there is no result to compare: every policy failed"):
        render_comparison([], {})


def test_policies_stand_side_by_side(comparison: str) -> None:
    text = text_of(comparison)
    assert "loki missed the least: 2.0 % of the requests" in text
    assert "loki has fewer violations than triscale, and is not worse on accuracy or cost." in text
    assert "triscale 80.00 20 1.00 95.00 55 260" in text
    assert "loki 98.00 2 0.10 95.00 55 260" in text
    assert "hpa: has no such option" in text
    assert "triscale: nothing would serve 3 requests" in text
    assert "dropped at detect: could no longer be answered in time 10 10" in text
    assert titles(comparison) == [
        "Violations, % of the requests",
        "Core-seconds",
        "Accuracy, %",
        "p99 latency, ms",
        "Violations, % of the requests, over mean cores held",
        "Violations, % of the requests that arrived",
        "Cores held",
        "Accuracy of the requests answered in time, %",
        "p99 latency of the answers, ms",
    ]


def seeds(policy: str, missed: list[int], **changes: Any) -> list[dict[str, Any]]:
    return [
        result(policy=policy, seed=seed, violations={"late": late}, attainment=1.0 - late / 100, **changes)
        for seed, late in enumerate(missed)
    ]


def said(*documents: list[dict[str, Any]]) -> list[str]:
    return remarks(standings([read_simulation(each) for runs in documents for each in runs]))


def test_fewer_violations_are_fewer_seed_by_seed() -> None:
    # The policies' own spreads overlap by far; the differences, seed by seed, are 5, 6 and 5.
    better, worse = seeds("a", [10, 40, 70]), seeds("b", [15, 46, 75])
    assert said(better, worse) == ["a has fewer violations than b, and is not worse on accuracy or cost."]
    # Here b is better with one seed of three.
    doubtful = said(better, seeds("b", [15, 39, 75]))
    assert doubtful == ["No policy has fewer violations than another without being worse on accuracy or cost."]


@pytest.mark.parametrize(
    ("changes", "dominates"),
    [
        ({"accuracy": 0.9491}, True),
        ({"accuracy": 0.9489}, False),
        ({"core_seconds": 55.5}, True),
        ({"core_seconds": 55.6}, False),
        ({"accuracy": None}, False),
    ],
)
def test_not_worse_has_margins_of_a_tenth_of_a_point_and_a_hundredth(changes: dict[str, Any], dominates: bool) -> None:
    told = said(seeds("a", [1, 2], **changes), seeds("b", [11, 12]), seeds("c", [11, 12]))
    expected = "a has fewer violations than b and c, and is not worse on accuracy or cost."
    assert (told == [expected]) == dominates


def test_the_oracle_dominates_nobody_and_measures_all() -> None:
    told = said(seeds("oracle", [0, 0], core_seconds=50.0), seeds("a", [4, 6]))
    assert told == ["a against the oracle: \u22125.00 points of attainment, the same accuracy, +10.0 % core-seconds."]
    costly = said(seeds("oracle", [5, 5], accuracy=0.9, core_seconds=10.0), seeds("a", [5, 5]))
    assert costly == [
        "a against the oracle: the same attainment, +5.00 points of accuracy, 5.5 times the core-seconds."
    ]


def test_a_few_violations_of_a_million_requests_are_told() -> None:
    few = result(requests=1_000_000, answered=999_997, violations={"late": 3}, attainment=0.999997, causes=[])
    none = {**few, "policy": "oracle", "answered": 1_000_000, "violations": {}, "attainment": 1.0}
    assert simulation_headline(read_simulation(few)) == (
        "99.9997 % of 1,000,000 requests answered within 250 ms under triscale"
    )
    text = text_of(render_simulation(few, {}))
    assert "Attainment 99.9997 % of 1,000,000 requests" in text
    compared = text_of(render_comparison([few, none], {}))
    assert "triscale 99.9997 3 1.00" in compared
    assert "oracle 100.00 0 0.00" in compared
    assert "triscale against the oracle: \u22120.0003 points of attainment" in compared


def test_violations_are_related_to_the_first_policy_on_the_seeds_of_both() -> None:
    first, second = seeds("a", [10, 20, 30]), seeds("b", [5, 5])
    found = standings([read_simulation(each) for each in [*first, *second]])
    assert found[0].relative == 1.0
    assert found[1].relative == pytest.approx(10 / 30)
    nothing = standings([read_simulation(each) for each in [*seeds("a", [0]), *second]])
    assert nothing[1].relative is None


def test_a_tie_is_told_as_one() -> None:
    found = standings([read_simulation(each) for each in [*seeds("a", [0]), *seeds("b", [0]), *seeds("c", [9])]])
    assert comparison_headline(found) == "2 of 3 policies answered every request in time"


@pytest.mark.parametrize(
    ("freedom", "t"), [(1, 12.7062), (2, 4.30265), (3, 3.18245), (4, 2.77645), (9, 2.26216), (29, 2.04523)]
)
def test_students_t_is_that_of_the_tables(freedom: int, t: float) -> None:
    assert student_t(freedom) == pytest.approx(t, rel=1e-5)


def test_an_interval_needs_two_values() -> None:
    assert interval([]) is None
    assert interval([3.0]) == Interval(3.0, None)
    found = interval([1.0, 2.0, 3.0])
    assert found is not None
    assert found.half == pytest.approx(4.30265 / math.sqrt(3.0), rel=1e-5)
    assert (found.low + found.high) / 2.0 == pytest.approx(2.0)


def test_figures_are_worded_for_people() -> None:
    assert figure_text(Interval(0.98765, 0.0012), 2, 100.0) == "98.77 ±0.12"
    assert figure_text(Interval(12345.6)) == "12,346"
    assert figure_text(Interval(0.999996, 0.000002), 2, 100.0) == "99.9996 ±0.0002"
    assert figure_text(Interval(1.0), 2, 100.0) == "100.00"
    assert figure_text(Interval(0.2)) == "0.2", "a violation in five runs is not none"
    assert figure_text(Interval(99.6)) == "100", "a mark for shares only"
    assert figure_text(None) == "\u2013"
    assert [duration(seconds) for seconds in (90.0, 1200.0, 86_400.0)] == ["90 s", "20 min", "24 h"]
    assert [listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])] == ["a", "a and b", "a, b and c"]
    assert actions_text({"lost": 2, "launch": 1}) == "no plans, 1 launch, no resizes, no drains, 2 replicas lost"
