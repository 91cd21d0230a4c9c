from __future__ import annotations

import base64
import importlib
import io
import re
from typing import Any

import pytest

from tests.unit.observe.page_reading import parsed, text_of
from triscale.errors import ConfigError
from triscale.observe.report import render

PHASES: list[dict[str, Any]] = [
    {
        "name": "steady",
        "seconds": 3.0,
        "rate_per_s": 10.0,
        "sent": 30,
        "answered": 30,
        "attainment": 1.0,
        "goodput_per_s": 10.0,
        "latency_ms": {"p50": 80.0, "p95": 120.0, "p99": 140.0},
        "accuracy": 0.98,
        "scored": 30,
    },
    {
        "name": "burst",
        "seconds": 3.0,
        "rate_per_s": 40.0,
        "sent": 120,
        "answered": 60,
        "late": 4,
        "shed": 50,
        "dropped": 6,
        "attainment": 0.5,
        "goodput_per_s": 20.0,
        "latency_ms": {"p50": 180.0, "p95": 220.0, "p99": 240.0},
        "accuracy": 0.9,
        "scored": 60,
        "reasons": [
            {"outcome": "shed", "reason": "overloaded", "stage": "", "count": 50},
            {"outcome": "dropped", "reason": "predicted_late", "stage": "recognize", "count": 6},
            {"outcome": "late", "reason": "", "stage": "", "count": 4},
        ],
    },
]
DOCUMENT: dict[str, Any] = {
    "pipeline": "ocr",
    "slo_ms": 250.0,
    "created": "2026-11-21 21:40 UTC",
    "counts_agree": True,
    "phases": PHASES,
    "series": {
        "sent": [10, 10, 10, 40, 40, 40],
        "answered": [10, 10, 10, 20, 20, 20],
        "late": [0, 0, 0, 2, 1, 1],
        "dropped": [0, 0, 0, 2, 2, 2],
        "shed": [0, 0, 0, 16, 17, 17],
        "failed": [0] * 6,
        "cancelled": [0] * 6,
        "p50_ms": [80.0, 80.0, None, 180.0, 180.0, 180.0],
        "p99_ms": [140.0, 130.0, None, 240.0, 240.0, 240.0],
    },
    "score_says": "Character accuracy of a page.",
    "samples": [
        {"truth": ["one line of text", "<b>two & three</b>"], "read": ["one line of text", "two"], "score": 0.5}
    ],
    "stages": [{"name": "recognize", "variants": ["latin"], "cores": 1.4, "cores_series": [[0.5, 1.0], [1.5, 1.8]]}],
    "plan": {"capacity_per_s": 20.4, "cores": 2, "reason": "the most accurate variants"},
    "machine": {"cpu": "A Processor", "cores": 2, "memory_bytes": 24 * 2**30, "python": "3.11", "os": "Linux"},
    "commands": [{"does": "run it again", "line": "triscale demo ocr --set 'slo_ms=250'"}],
    "problems": ["something to mistrust"],
    "keys that the report does not know": 1,
}


@pytest.fixture(scope="module")
def page() -> str:
    return render(DOCUMENT)


def test_the_page_is_whole_and_loads_nothing(page: str) -> None:
    tags = parsed(page)
    assert "script" not in tags.tags
    assert "link" not in tags.tags
    assert all(source.startswith(("data:", "#")) for source in tags.loaded)
    assert "url(http" not in page
    assert "@import" not in page


def test_it_tells_what_happened_in_plain_words(page: str) -> None:
    text = text_of(page)
    assert "60.0 % of 150 requests answered within 250 ms" in text
    assert "10 requests/s for 3 s: all 30 were answered within 250 ms, 99 of 100 answers within 140 ms." in text
    assert "50 were refused at the door (no room behind the work already admitted)." in text
    assert "6 were dropped (could no longer be answered in time) at recognize." in text
    assert "4 were answered too late." in text
    assert "something to mistrust" in text


def test_it_shows_every_figure_and_where_it_ran(page: str) -> None:
    text = text_of(page)
    for figure in ("20.4/s", "92.7 %", "agree", "A Processor, 2 cores", "24 GiB", "1.40", "the most accurate variants"):
        assert figure in text
    assert "triscale demo ocr --set &#x27;slo_ms=250&#x27;" in page
    assert "Accuracy: Character accuracy of a page." in text


def test_what_users_wrote_is_text_and_differences_are_marked(page: str) -> None:
    assert "<b>two" not in page
    assert "<mark>&lt;b&gt;</mark>two<mark> &amp; three&lt;/b&gt;</mark>" in page


def test_plots_are_drawn_in_the_colours_of_the_page_at_two_widths(page: str) -> None:
    svgs = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
    assert len(svgs) == 2 * 4
    assert page.count('class="wide"') == page.count('class="narrow"') == 4
    for svg in svgs:
        assert "var(--quiet)" in svg
        assert not re.search(r"#0[0-9a-f]{2}fe5", svg)
        assert not re.search(r"<svg[^>]* (width|height)=", svg)
    assert "prefers-color-scheme: dark" in page


def test_a_figure_names_itself_for_those_who_cannot_see_it(page: str) -> None:
    labels = re.findall(r'<figure role="img" aria-label="([^"]*)"', page)
    assert labels[0] == (
        "Arrivals and goodput, requests per second: "
        "arrivals, answered in time (goodput), the plan&#x27;s capacity, 20.4/s"
    )


def test_sections_without_data_are_left_out() -> None:
    page = render({"pipeline": "ocr", "slo_ms": 250.0, "phases": [PHASES[0]]})
    parsed(page)
    text = text_of(page)
    assert "All 30 requests answered within 250 ms" in text
    for absent in ("Over time", "What was read", "Stages", "Where it ran", "where and why", "Server and client"):
        assert absent not in text


def test_a_phase_without_requests_is_told_as_such() -> None:
    page = render(
        {"pipeline": "ocr", "slo_ms": 1.0, "phases": [{"name": "a", "seconds": 1.0, "sent": 0, "answered": 0}]}
    )
    assert "No request was sent to ocr" in text_of(page)
    assert "1 s: nothing was sent." in text_of(page)


def test_a_disagreement_of_server_and_client_stands_out() -> None:
    assert '<dd class="bad">differ' in render(DOCUMENT | {"counts_agree": False})


def test_without_matplotlib_figures_stand_in_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def without(name: str, package: str | None = None) -> Any:
        if name.startswith(("matplotlib", "PIL")):
            raise ImportError(name)
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", without)
    page = render(DOCUMENT)
    parsed(page)
    assert "<svg" not in page
    text = text_of(page)
    assert "plots need matplotlib; install it with `pip install triscale[report]`" in text
    assert "second sent answered late dropped shed failed cancelled 0 10 10 0 0 0 0 0" in text


def test_pictures_are_made_small_and_stay_inside_the_page() -> None:
    image = importlib.import_module("PIL.Image")
    drawn = io.BytesIO()
    image.new("RGB", (1600, 2000), "white").save(drawn, "JPEG")
    sample = {"truth": "a", "read": "a", "image": base64.b64encode(drawn.getvalue()).decode()}
    page = render(DOCUMENT | {"samples": [sample]})
    found = re.search(r'src="data:image/jpeg;base64,([^"]*)"', page)
    assert found
    shown = image.open(io.BytesIO(base64.b64decode(found[1])))
    assert max(shown.size) <= 960
    assert shown.size[0] / shown.size[1] == pytest.approx(0.8, abs=0.01)


def test_a_broken_picture_does_not_break_the_page() -> None:
    page = render(DOCUMENT | {"samples": [{"truth": "a", "read": "b", "image": '"><script>'}]})
    assert "script" not in parsed(page).tags


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (
            {},
            r"the document is not the JSON of a run: .*missing required field `pipeline`; make one with `triscale demo",
        ),
        ({"pipeline": "a", "slo_ms": "fast", "phases": []}, r"Expected `float`, got `str` - at `\$.slo_ms`"),
    ],
)
def test_what_is_no_run_is_refused(document: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        render(document)


def test_the_same_document_gives_the_same_page(page: str) -> None:
    assert render(DOCUMENT) == page
    assert len(page) < 400_000
