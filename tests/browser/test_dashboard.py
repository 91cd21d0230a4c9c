"""The dashboard in a real browser, on a pipeline that is really served, under load.

Skipped where there is no Chromium (Debian's package `chromium`) or no Playwright (of the development requirements).
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Serve, Server

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH; install Debian's package chromium"),
    # Playwright keeps an event loop of its own, and leaves it to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

PIPELINE = """\
name: cameras
slo_ms: 400
stages:
  detect:
    variants:
      - {name: large, runtime: emulated, accuracy: 0.98, fan_out: {read: 2.0}, latency_ms: {1: 60, 8: 300}}
      - {name: small, runtime: emulated, accuracy: 0.90, fan_out: {read: 2.0}, latency_ms: {1: 20, 8: 90}}
  read:
    after: detect
    variants:
      - {name: only, runtime: emulated, latency_ms: {1: 15, 8: 60}}
"""
CLIENTS = 6
PATIENCE_MS = 30_000

Page = Any
Open = Callable[..., Page]

# Of every visible text: how far its colour stands out from what is behind it (WCAG 2.1, relative luminance).
CONTRASTS = """
() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return canvas.getImageData(0, 0, 1, 1).data;
  };
  const luminance = ([r, g, b]) => [r, g, b]
    .map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const colour = getComputedStyle(each).backgroundColor;
      if (rgba(colour)[3] === 255) return rgba(colour);
    }
    return rgba("white");
  };
  return [...document.querySelectorAll("main *")]
    .filter((e) => e.checkVisibility() && [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()))
    .map((e) => {
      const style = getComputedStyle(e);
      const [a, b] = [luminance(rgba(e.closest("svg") ? style.fill : style.color)), luminance(behind(e))];
      return { text: e.textContent.slice(0, 40), ratio: (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) };
    });
}
"""


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("cameras") / "pipeline.yaml"
    file.write_text(PIPELINE)
    return file


@pytest.fixture(scope="module")
def server(pipeline: Path) -> Iterator[Server]:
    """A server under load, on a cluster that it only stands for."""
    found = Server(pipeline, "--policy", "triscale", "--nodes", "2x4")
    stop = threading.Event()
    clients = [threading.Thread(target=infer_until, args=(stop, found)) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    yield found
    stop.set()
    for client in clients:
        client.join()
    found.stop()


def infer_until(stop: threading.Event, server: Server) -> None:
    while not stop.is_set():
        status, _, _ = server.infer([1.0])
        if status != 200:
            stop.wait(0.02)  # shed or dropped: an answer too, but not one to ask for again at once


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts servers, and ends them whatever the test did."""
    started: list[Server] = []

    def serve(pipeline: Path, *arguments: str) -> Server:
        started.append(Server(pipeline, *arguments))
        return started[-1]

    yield serve
    for server in started:
        server.stop()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM)
        playwright.expect.set_options(timeout=PATIENCE_MS)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Any) -> Iterator[Open]:
    """Opens a page; in the end, it must have asked no other host and logged no error but those it was allowed."""
    contexts: list[Any] = []
    errors: list[str] = []
    hosts: set[str] = set()
    allowed: list[str] = []

    def visit(url: str, *, width: int = 1280, scheme: str = "light", expected: str = "") -> Page:
        context = chromium.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        allowed.extend([expected] if expected else [])
        page = context.new_page()
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: None if request.url.startswith((url, "data:")) else hosts.add(request.url))
        page.goto(url)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert hosts == set(), "every request goes to the server that the page came from"
    assert [error for error in errors if not any(part in error for part in allowed)] == []


def live(page: Page) -> Page:
    page.wait_for_selector("#live:not([hidden]) .stage")
    return page


def test_stages_figures_plots_and_decisions_of_a_pipeline_under_load(server: Server, visit: Open) -> None:
    page = live(visit(server.url))
    assert page.inner_text("h1") == "cameras"
    assert page.locator(".stage h3").all_inner_texts() == ["detect", "read"]
    page.wait_for_selector("#decisions li")
    assert page.locator("#decisions li .mode").first.inner_text() in ("hardware", "accuracy", "overload")
    assert page.locator("#decisions li p").first.inner_text() != ""
    playwright.expect(page.locator("#decisions .change", has_text="cores").first).to_be_visible()
    assert page.locator(".stage[data-stage=read] .from").inner_text() == "2.00 per item of detect"
    for name in ("rates", "cores", "accuracy", "latency"):
        page.wait_for_selector(f"#{name} svg path", state="attached")
    assert page.locator("#rates .legend").inner_text().startswith("answered in time")
    playwright.expect(page.locator(".stage .variants .parts").first).to_contain_text("planned")


def test_the_figures_move(server: Server, visit: Open) -> None:
    page = live(visit(server.url))
    requests = page.locator(".tile dd").last
    playwright.expect(requests).not_to_have_text(requests.inner_text())
    line = page.locator("#rates path.line")
    playwright.expect(line).not_to_have_attribute("d", line.get_attribute("d"))


def test_stages_stand_behind_those_that_feed_them_and_edges_join_them(server: Server, visit: Open) -> None:
    page = live(visit(server.url))
    first, second = (page.locator(f".stage[data-stage={name}]").bounding_box() for name in ("detect", "read"))
    assert first["x"] + first["width"] < second["x"]
    assert page.locator(".graph > svg path").count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_everything_without_scrolling_sideways(server: Server, visit: Open, scheme: str) -> None:
    page = live(visit(server.url, width=375, scheme=scheme))
    page.wait_for_selector("#decisions li")
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    first, second = (page.locator(f".stage[data-stage={name}]").bounding_box() for name in ("detect", "read"))
    assert first["y"] + first["height"] < second["y"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_stands_out_from_its_ground(server: Server, visit: Open, scheme: str) -> None:
    page = live(visit(server.url, scheme=scheme))
    page.wait_for_selector("#decisions li")
    weak = [found for found in page.evaluate(CONTRASTS) if found["ratio"] < 4.5]
    assert weak == [], "WCAG 2.1 AA wants 4.5 to 1"
    dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    assert dark == (scheme == "dark")


def test_the_keyboard_reaches_ranges_and_plots(server: Server, visit: Open) -> None:
    page = live(visit(server.url))
    page.wait_for_selector("#rates svg path", state="attached")
    page.focus("#range input:checked")
    page.keyboard.press("ArrowRight")
    assert page.locator("#range input:checked").input_value() == "600"
    page.focus("#rates")
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector("#rates .moment")
    page.keyboard.press("Escape")
    page.wait_for_selector("#rates .moment", state="hidden")


def test_what_is_there_has_a_name_for_those_who_do_not_see_it(server: Server, visit: Open) -> None:
    page = live(visit(server.url))
    tree = page.locator("main").aria_snapshot()
    for name in ('heading "cameras"', 'heading "Stages"', 'article "detect"', 'group "Show the last"', "radio"):
        assert name in tree
    assert page.evaluate("document.documentElement.lang") == "en"


def test_a_script_that_is_not_the_pages_own_does_not_run(server: Server, visit: Open) -> None:
    page = live(visit(server.url, expected="Content Security Policy"))
    page.evaluate(
        """() => {
          const script = document.createElement("script");
          script.textContent = "window.intruder = true";
          document.body.append(script);
        }"""
    )
    assert page.evaluate("window.intruder") is None


def test_a_token_is_asked_for_and_kept_for_the_tab_alone(pipeline: Path, serve: Serve, visit: Open) -> None:
    server = serve(pipeline, "--policy", "static", "--token", "open sesame")
    page = visit(server.url, expected="401")
    page.wait_for_selector("#door:not([hidden])")
    assert page.locator("#live").is_hidden()
    page.fill("#token", "guess")
    page.keyboard.press("Enter")
    playwright.expect(page.locator("#door-text")).to_contain_text("does not accept this token")
    page.fill("#token", "open sesame")
    page.click("#door button")
    live(page)
    assert page.evaluate("[sessionStorage.length, localStorage.length, document.cookie]") == [1, 0, ""]
    page.reload()
    live(page)
    fixed = "The plan is fixed: policy static decides nothing while it serves."
    assert page.inner_text("#decisions-text") == fixed
    assert page.locator("#violations .empty").inner_text() == "None in this time."


def test_a_lost_server_is_told_and_another_in_its_place_is_taken_up(pipeline: Path, serve: Serve, visit: Open) -> None:
    server = serve(pipeline, "--policy", "static")
    port = server.url.rsplit(":", 1)[1]
    page = live(visit(server.url, expected="net::ERR_"))
    page.wait_for_selector("#rates svg path", state="attached")
    server.stop()
    page.wait_for_selector("#alert:not([hidden])")
    assert page.inner_text("#alert-text").startswith("Connection lost. What is shown is of ")
    assert page.locator(".stage").count() == 2, "what was last seen stays"
    page.click("#retry")
    assert page.locator("#alert").is_visible(), "there is still nobody"
    serve(pipeline, "--policy", "static", "--port", port)
    page.wait_for_selector("#alert", state="hidden")
    assert page.locator(".stage").count() == 2
