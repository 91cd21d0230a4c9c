"""`triscale top`: what is on the screen, that it fits, and that a lost server comes back."""

from __future__ import annotations

import asyncio
import io

import pytest
from click.testing import CliRunner
from rich.console import Console

from tests.unit.cli.status_server import ScenePages, serving
from tests.unit.observe.live_scene import LiveScene, decision
from triscale.cli import top
from triscale.cli.main import cli
from triscale.cli.sparkline import sparkline
from triscale.cli.status_client import StatusClient
from triscale.cli.top_view import Trail, screen
from triscale.errors import ConfigError, NotReady, TriscaleError


def busy_scene() -> LiveScene:
    scene = LiveScene()
    for _ in range(4):
        scene.arrive()
        scene.arrive()
        scene.seconds()
    scene.decisions = [decision(number, f"reason {number}") for number in range(1, 9)]
    return scene


def console(width: int, height: int) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=width, height=height, color_system=None)


def shown(scene: LiveScene, width: int, height: int, notice: str = "") -> list[str]:
    trail = Trail()
    trail.add(scene.history.since())
    target = console(width, height)
    target.print(screen(scene.status(), trail, width, height, notice))
    assert isinstance(target.file, io.StringIO)
    return target.file.getvalue().rstrip("\n").split("\n")


def test_a_large_terminal_shows_figures_stages_curves_a_plot_and_decisions() -> None:
    lines = shown(busy_scene(), 120, 50)
    text = "\n".join(lines)
    assert lines[0].strip().startswith("test · ready · policy triscale")
    for name in ("capacity", "arrivals", "answered", "p99", "accuracy", "cores", "queue"):
        assert any(line.strip().startswith(name) for line in lines)
    assert "● arrivals   ○ capacity of the plan" in text
    assert "detect   large 100 %" in text
    assert "reason 8" in text
    assert len(lines) <= 50


@pytest.mark.parametrize(("width", "height"), [(120, 50), (100, 40), (80, 24), (60, 30), (40, 40)])
def test_no_line_is_wider_than_the_terminal(width: int, height: int) -> None:
    assert all(len(line) <= width for line in shown(busy_scene(), width, height))


def test_in_a_narrow_terminal_columns_go_rather_than_digits_and_what_is_said_is_wrapped() -> None:
    lines = shown(busy_scene(), 44, 60)
    header = next(line for line in lines if line.startswith(" stage "))
    assert header.split() == ["stage", "attained", "queue", "cores", "at", "work"]
    text = " ".join(" ".join(lines).split())
    assert "from the start, 1 up, 0 out" in text
    assert "\u2026" not in " ".join(lines[: lines.index(header)])


def test_a_small_terminal_shows_the_latest_decisions_that_fit_and_no_plot() -> None:
    lines = shown(busy_scene(), 100, 32)
    assert len(lines) <= 32
    assert any("reason 8" in line for line in lines)
    assert not any("capacity of the plan" in line for line in lines)


def test_a_server_that_has_just_started_is_shown_too() -> None:
    assert shown(LiveScene(), 100, 40)


def test_a_notice_stands_at_the_top() -> None:
    assert shown(busy_scene(), 100, 40, "connection lost")[0].strip() == "connection lost"


def test_a_trail_joins_what_was_asked_for_second_by_second() -> None:
    scene, trail = busy_scene(), Trail()
    trail.add(scene.history.since(0))
    scene.seconds()
    trail.add(scene.history.since(trail.last))
    assert list(trail.columns["arrivals_per_s"]) == [2.0, 2.0, 2.0, 2.0, 0.0]
    assert trail.last == 5


def test_a_sparkline_has_its_newest_value_at_the_right() -> None:
    assert sparkline([0.0, 4.0, 8.0], 5, 8.0) == "   ▄█"
    assert sparkline([1.0, None, 99.0], 3, 8.0) == "▁ █"
    assert sparkline([8.0, 0.0, 8.0], 2, 8.0) == " █"
    assert sparkline([0.5, 0.75, 1.0], 3, 1.0, floor=0.5) == " ▄█"


def test_without_a_terminal_it_says_what_to_use_instead() -> None:
    result = CliRunner().invoke(cli, ["top"])
    assert isinstance(result.exception, ConfigError)
    assert str(result.exception) == (
        "triscale top draws in a terminal, and this is none; use `triscale status` or the dashboard"
    )


class UnreliablePages(ScenePages):
    """Lets a second of the scene pass before each answer; on its third it is away."""

    asked = 0

    def status(self) -> bytes:
        self.asked += 1
        if self.asked == 3:
            raise NotReady("away")
        self.scene.seconds()
        return super().status()


def test_it_redraws_every_second_and_survives_a_lost_connection() -> None:
    drawn: list[str] = []
    target = console(100, 40)
    assert isinstance(target.file, io.StringIO)

    async def turn(seconds: float) -> None:
        assert seconds == 1.0
        drawn.append(target.file.getvalue()[sum(map(len, drawn)) :])  # type: ignore[attr-defined]
        if len(drawn) == 4:
            raise asyncio.CancelledError

    with serving(UnreliablePages(busy_scene())) as url:

        async def run() -> None:
            await top._watch(StatusClient(url), target, turn)

        with pytest.raises(asyncio.CancelledError):
            asyncio.run(run())
    assert ["connection lost, trying again every second" in frame for frame in drawn] == [False, False, True, False]
    assert [f"up {age} s" in frame for age, frame in zip((5, 6, 6, 7), drawn, strict=True)] == [True] * 4


def test_without_a_server_it_ends_with_what_to_do() -> None:
    async def run() -> None:
        await top._watch(StatusClient("http://127.0.0.1:1"), console(80, 24))

    with pytest.raises(TriscaleError, match="nothing listens at"):
        asyncio.run(run())
