"""A real server says of itself what its clients saw: on its own pages, and through `triscale status`."""

from __future__ import annotations

import http.client
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest
from click.testing import CliRunner

from tests.integration.conftest import Serve, Server
from triscale.cli.main import cli
from triscale.observe.status import Status

pytestmark = pytest.mark.processes

Echo = Callable[..., Path]


def told(server: Server, *arguments: str) -> Status:
    result = CliRunner().invoke(cli, ["status", server.url, "--json", *arguments])
    assert result.exception is None
    return msgspec.json.decode(result.stdout, type=Status)


def test_the_status_counts_what_clients_got(serve: Serve, echo: Echo) -> None:
    server = serve(echo(split=True), "--policy", "static")
    for values in ([1.0, 2.0], [3.0], [400.0]):
        server.infer(values)
    status = told(server)
    assert (status.pipeline, status.policy, status.ready, status.slo_ms) == ("echo", "static", True, 2000.0)
    assert status.requests.arrived == 3
    assert (status.requests.outcomes["answered"], status.requests.outcomes["failed"]) == (2, 1)
    assert [(cause.outcome, cause.reason, cause.stage) for cause in status.requests.causes] == [
        ("failed", "rejected", "work")
    ]
    assert [stage.name for stage in status.stages] == ["split", "work"]
    assert [stage.replicas["ready"] for stage in status.stages] == [1, 1]
    assert status.stages[1].variants[0].items == 4
    assert status.cores.start == status.cores.held > 0.0
    assert (status.cores.up, status.cores.out, status.decisions_total) == (0.0, 0.0, 0)


def test_the_page_is_open_and_the_documents_want_the_token(serve: Serve, echo: Echo) -> None:
    server = serve(echo(), "--token", "secret")
    address = urlsplit(server.url)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=10)
    connection.request("GET", "/", headers={"accept-encoding": "gzip"})
    response = connection.getresponse()
    assert (response.status, response.getheader("content-type")) == (200, "text/html; charset=utf-8")
    assert "script-src 'sha256-" in str(response.getheader("content-security-policy"))
    assert len(response.read()) < 30_000, "compressed"
    connection.close()
    assert server.request("GET", "/triscale/history")[0] == 401
    assert told(server, "--token", "secret").pipeline == "echo"
