"""`triscale status` tells what a server says, and what to do when there is none to ask."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import click
import msgspec
import pytest
from click.testing import CliRunner, Result

from tests.unit.cli.status_server import ScenePages, serving
from tests.unit.observe.live_scene import LiveScene, decision
from triscale.cli.main import cli
from triscale.cli.status_text import decision_rows, facts
from triscale.errors import ConfigError, TriscaleError
from triscale.observe.status import Status


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["status", *arguments], env={"TRISCALE_TOKEN": "", "COLUMNS": "160"})


@pytest.fixture(scope="module")
def scene() -> LiveScene:
    """One good second, and one in which more came than one reader can serve."""
    found = LiveScene()
    found.arrive()
    found.seconds()
    for _ in range(7):
        found.arrive()
    found.seconds(2)
    found.decisions = [decision(1, "for a start"), decision(2, "more is coming", mode="accuracy", accuracy=0.8)]
    return found


@pytest.fixture(scope="module")
def url(scene: LiveScene) -> Iterator[str]:
    with serving(ScenePages(scene)) as found:
        yield found


def test_json_is_the_servers_own_document(scene: LiveScene, url: str) -> None:
    result = invoke(url, "--json")
    assert result.exit_code == 0
    assert msgspec.json.decode(result.stdout, type=Status) == scene.status()


def test_words_say_plan_figures_stages_variants_and_decisions(url: str) -> None:
    text = invoke(url).output
    assert text.startswith("test · ready · policy triscale · objective 1,000 ms · up 3 s\n")
    assert "hardware: enough for 8 requests/s\n" in text
    assert "8 arrived, " in text
    assert "/s of 15/s that the plan carries; 0 in progress" in text
    assert "4 of 8: 3 from the start, 1 up, 0 out; " in text
    assert "dropped at read (could no longer be answered in time)" in text
    stages = {line.split()[0]: line for line in text.splitlines() if line.startswith(("detect ", "read "))}
    assert "1 ready" in stages["read"]
    assert "detect/large" in text
    assert "detect/small" not in text, "neither planned nor run"
    latest, first = text.splitlines()[-2:]
    assert "accuracy  cores 2 → 4, accuracy 90.0 % → 80.0 %: more is coming" in latest
    assert "hardware  cores 2 → 4: for a start" in first


def test_a_decision_that_changes_neither_cores_nor_accuracy_says_so() -> None:
    (row,) = decision_rows([decision(1, "another mix", cores_before=4.0, served_fraction=0.75)])
    assert row.plain.endswith("hardware  25.0 % shed: another mix")
    (row,) = decision_rows([decision(1, "another mix", cores_before=4.0)])
    assert row.plain.endswith("hardware  4 cores as before: another mix")


def test_what_is_shed_is_said_once() -> None:
    said = decision(1, reason="2 cores carry 3 of 4 requests/s; the other 25.0 % are shed", served_fraction=0.75)
    (row,) = decision_rows([said])
    assert row.plain.count("25.0 %") == 1


def test_a_server_that_nobody_asked_yet_says_what_the_dashes_mean() -> None:
    lines = [line.plain for line in facts(LiveScene().status())]
    assert "no requests yet: \u2013 stands for what is not known without any" in lines


def test_a_url_needs_no_scheme(url: str) -> None:
    assert invoke(url.removeprefix("http://")).exit_code == 0


def refusal(*arguments: str) -> str:
    result = invoke(*arguments)
    assert isinstance(result.exception, TriscaleError)
    return str(result.exception)


def test_where_nothing_listens_it_says_how_to_start_a_server() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        assert refusal(url) == (
            f"nothing listens at {url}; start a server with `triscale serve PIPELINE`, or give the URL of one that runs"
        )


def test_a_token_that_is_missing_or_wrong_is_told_apart(scene: LiveScene) -> None:
    with serving(ScenePages(scene), token="secret") as url:
        assert refusal(url) == (f"the server at {url} wants a token; give it with --token or in TRISCALE_TOKEN")
        assert refusal(url, "--token", "guess") == (
            f"the server at {url} does not accept this token; check --token or TRISCALE_TOKEN"
        )
        assert invoke(url, "--token", "secret").exit_code == 0
        assert CliRunner().invoke(cli, ["status", url], env={"TRISCALE_TOKEN": "secret"}).exit_code == 0


def test_another_http_server_is_recognised() -> None:
    with serving(None) as url:
        assert refusal(url) == (
            f"what listens at {url} is not a triscale server, or an older one: it answered 404; "
            "give the URL that `triscale serve` printed"
        )


def test_a_document_of_another_version_is_not_guessed_at(scene: LiveScene) -> None:
    class Other(ScenePages):
        def status(self) -> bytes:
            return b'{"pipeline": 7}'

    with serving(Other(scene)) as url:
        assert refusal(url).startswith(f"what {url} answered is not of this version of triscale (")


def test_what_is_no_url_or_no_token_is_refused() -> None:
    for arguments in (("ftp://there",), ("http://127.0.0.1:1/v2",), ("http://127.0.0.1:1", "--token", "two\nlines")):
        assert isinstance(invoke(*arguments).exception, ConfigError)


def test_the_default_url_is_where_serve_listens() -> None:
    command = cli.get_command(click.Context(cli), "status")
    assert command is not None
    assert next(p.default for p in command.params if p.name == "url") == "http://127.0.0.1:8000"
