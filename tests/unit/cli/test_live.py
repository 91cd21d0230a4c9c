from __future__ import annotations

import io

import pytest
from msgspec.structs import replace
from rich.console import Console

from tests.unit.observe.live_scene import LiveScene, decision, view
from triscale.cli.live import LinesView, PanelView, view_for
from triscale.cli.live_axes import axes_lines, axes_words
from triscale.cli.live_state import LiveState, StageState
from triscale.core.snapshot import Phase
from triscale.observe.status import Status
from triscale.observe.wording import NOTHING
from triscale.traces.messages import PhaseCounts, Progress


def state(
    at: float, phase: int = 0, p99: float | None = 80.0, sent: int = 40, status: Status | None = None
) -> LiveState:
    phases = (
        PhaseCounts(name="steady", seconds=10.0, rate_per_s=4.0, sent=sent, answered=sent - 2, late=1),
        PhaseCounts(name="burst", seconds=10.0, rate_per_s=40.0),
    )
    progress = Progress(
        at_s=at,
        total_s=20.0,
        phase=phase,
        phase_at_s=at - 10.0 * phase,
        phases=phases,
        rate_per_s=4.0,
        goodput_per_s=3.9,
        p50_ms=20.0,
        p99_ms=p99,
    )
    stages = (StageState(name="detect", queue=3, busy_cores=0.5, items_per_s=12.0),)
    return LiveState(slo_ms=100.0, progress=progress, ceiling_per_s=6.5, stages=stages, status=status)


def terminal(width: int = 90) -> Console:
    return Console(
        file=io.StringIO(), force_terminal=True, width=width, height=40, color_system=None, legacy_windows=False
    )


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_without_a_terminal_there_are_plain_lines_one_a_second() -> None:
    console = Console(file=io.StringIO(), width=80)
    view = view_for(console)
    assert isinstance(view, LinesView)
    with view:
        view.step("serving ocr", "2 cores")
        view.busy("making samples")
        for at in (0.1, 0.4, 0.9, 1.2):
            view.show(state(at))
    counts = "40 sent, 38 answered, 1 late, 0 dropped, 0 shed, 0 failed, 0 cancelled; "
    counts += "attainment 97.4 %, arrivals 4/s, goodput 3.9/s, p50 20 ms, p99 80 ms"
    assert written(console).splitlines() == [
        "serving ocr: 2 cores",
        f"   0.1 s  steady: {counts}",
        f"   1.2 s  steady: {counts}",
    ]


def test_a_new_phase_gets_its_line_at_once() -> None:
    console = Console(file=io.StringIO())
    with view_for(console) as view:
        view.show(state(9.9))
        view.show(state(10.1, phase=1))
    assert [line.split(":")[0].split()[-1] for line in written(console).splitlines()] == ["steady", "burst"]


def test_brackets_in_texts_are_no_markup() -> None:
    console = Console(file=io.StringIO())
    with view_for(console) as view:
        view.step("serving [red]x[/red]", "variants[0]")
    assert written(console) == "serving [red]x[/red]: variants[0]\n"


def test_the_panel_shows_phase_outcomes_curves_latency_and_stages() -> None:
    console = terminal()
    view = view_for(console)
    assert isinstance(view, PanelView)
    with view:
        view.step("serving ocr", "2 cores")
        view.show(state(2.5))
        view._live.refresh()
    text = written(console)
    assert "✓ serving ocr  2 cores" in text
    assert "1/2 steady" in text
    assert "8 s left" in text
    assert "at 4 requests/s" in text
    assert "in flight" in text
    assert "the best variants carry 6.5/s" in text
    assert "p50 20 ms   p99 80 ms   objective 100 ms" in text
    assert "detect" in text


def test_the_panel_says_when_only_answers_are_missing() -> None:
    console = terminal()
    with view_for(console) as view:
        assert isinstance(view, PanelView)
        view.show(state(20.5, phase=1))
        view._live.refresh()
    assert "waiting for 1 answers" in written(console)


def test_the_panel_fits_a_narrow_terminal() -> None:
    console = terminal(width=50)
    with view_for(console) as view:
        assert isinstance(view, PanelView)
        for n in range(300):
            view.show(state(n / 20, p99=None))
        view._live.refresh()
    assert f"p99 {NOTHING}" in written(console)


@pytest.fixture
def status() -> Status:
    """Eight cores, of which three were there, one was added in place and two came with a replica; one is starting."""
    scene = LiveScene()
    scene.arrive()
    scene.seconds(1)
    scene.axes = replace(scene.axes, out=2.0)
    scene.views = (*scene.views, view("read-2", "read", 1, Phase.STARTING))
    scene.decisions = [decision(number, f"reason {number}") for number in range(1, 6)]
    return scene.status()


def test_the_panel_shows_the_three_axes_where_the_server_tells(status: Status) -> None:
    console = terminal(width=120)
    with view_for(console) as shown:
        assert isinstance(shown, PanelView)
        shown.show(state(2.5, status=status))
        shown._live.refresh()
    text = written(console)
    assert "6 of 8 cores held (1 up, 2 out)" in text
    assert "2 replicas + 1 starting" in text
    assert "90.0 % of what is answered; hardware plan: 90.0 %" in text
    assert "large 100 %" in text
    assert "items/s" not in text, "what the server tells takes the place of its metrics"


def test_the_latest_decisions_come_with_their_reasons(status: Status) -> None:
    lines = [line.plain for line in axes_lines(status)]
    assert [line[-8:] for line in lines[-3:]] == ["reason 5", "reason 4", "reason 3"]


def test_the_bar_is_as_long_as_the_cores_are_many(status: Status) -> None:
    bar = axes_lines(status)[0].plain
    assert (bar.count("█"), bar.count("░")) == (12, 4)
    more = replace(status, cores=replace(status.cores, total=4.0))
    assert axes_lines(more)[0].plain.count("█") == 16


def test_a_log_gets_the_axes_in_its_line(status: Status) -> None:
    words = "6 of 8 cores, 2 replicas + 1 starting, 90.0 % expected accuracy (hardware)"
    assert axes_words(status) == words
    console = Console(file=io.StringIO())
    with view_for(console) as shown:
        shown.show(state(0.1, status=status))
    assert written(console).endswith(f"; {words}\n")


def test_before_the_first_answer_the_plans_accuracy_is_shown_and_what_it_sheds() -> None:
    scene = LiveScene()
    idle = scene.status()
    shedding = replace(idle, plan=replace(idle.plan, mode="overload", served_fraction=0.75))
    assert axes_lines(shedding)[2].plain == (
        "accuracy  90.0 % of what is answered; overload plan: 90.0 %, 25.0 % to be refused"
    )
