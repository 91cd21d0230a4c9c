"""The server's own pages: where they are, who may read them, and that they leave the protocol's routes alone."""

from __future__ import annotations

import json

import pytest

from tests.unit.serve.conftest import FakeService, Link
from triscale.serve.routes import InferenceApi
from triscale.serve.status_routes import Page


class FakePages:
    """Documents that say how they were asked for."""

    page: Page | None = Page(b"<!doctype html><title>t</title>", "default-src 'none'")

    def status(self) -> bytes:
        return b'{"pipeline": "m"}'

    def history(self, since: int) -> bytes:
        return json.dumps({"since": since}).encode()

    def decisions(self, since: int) -> bytes:
        return json.dumps({"since": since}).encode()


def link(service: FakeService, token: str = "", pages: FakePages | None = None) -> Link:
    return Link(InferenceApi(service, token, pages or FakePages()))


def test_the_page_is_at_the_root_and_may_load_nothing_from_elsewhere(service: FakeService) -> None:
    response = link(service).request("GET", "/")
    assert (response.status, response.body) == (200, b"<!doctype html><title>t</title>")
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["content-security-policy"] == "default-src 'none'"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "no-referrer"
    assert response.headers["cache-control"] == "no-cache"


def test_the_documents_are_json_and_never_kept(service: FakeService) -> None:
    for target in ("/triscale/status", "/triscale/history", "/triscale/decisions"):
        response = link(service).request("GET", target)
        assert (response.status, response.headers["content-type"]) == (200, "application/json")
        assert response.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("document", ["history", "decisions"])
@pytest.mark.parametrize(
    ("query", "since"), [("", 0), ("?since=0", 0), ("?since=17", 17), ("?a=b&since=4", 4), ("?since=3&since=5", 5)]
)
def test_since_leaves_out_what_is_known(service: FakeService, document: str, query: str, since: int) -> None:
    assert link(service).request("GET", f"/triscale/{document}{query}").json == {"since": since}


@pytest.mark.parametrize("value", ["x", "-1", "1.5", "", "9" * 16, "%C2%B2"])
def test_a_since_that_is_no_number_is_refused_with_what_to_give(service: FakeService, value: str) -> None:
    response = link(service).request("GET", f"/triscale/history?since={value}")
    assert response.status == 400
    assert response.error.endswith("is not a whole number; give the `last` of an earlier answer, or 0")


@pytest.mark.parametrize("target", ["/", "/triscale/status", "/triscale/history", "/triscale/decisions"])
def test_pages_are_read_only(service: FakeService, target: str) -> None:
    door = link(service)
    refused = door.request("POST", target, b"{}")
    assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD")
    assert refused.error == f"{target} answers GET, HEAD only"


def test_head_says_how_long_the_page_is_and_sends_none_of_it(service: FakeService) -> None:
    door = link(service)
    door.send(b"HEAD / HTTP/1.1\r\nhost: t\r\n\r\n")
    written = bytes(door.transport.written)
    assert written.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"content-length: 31\r\n" in written
    assert written.endswith(b"\r\n\r\n")


def test_with_a_token_the_page_is_open_and_the_documents_are_not(service: FakeService) -> None:
    door = link(service, token="secret")
    assert door.request("GET", "/").status == 200
    for target in ("/triscale/status", "/triscale/history?since=3", "/triscale/decisions", "/v2/models"):
        assert door.request("GET", target).status == 401
        assert door.request("GET", target, headers={"authorization": "Bearer wrong"}).status == 401
        assert door.request("GET", target, headers={"authorization": "Bearer secret"}).status == 200


def test_without_a_page_the_root_is_nothing_and_needs_the_token_like_all_else(service: FakeService) -> None:
    pages = FakePages()
    pages.page = None
    assert link(service, pages=pages).request("GET", "/").status == 404
    assert link(service, "secret", pages).request("GET", "/").status == 401
    assert link(service, pages=pages).request("GET", "/triscale/status").status == 200


def test_a_server_without_pages_serves_the_protocol_alone(service: FakeService) -> None:
    door = Link(InferenceApi(service))
    assert door.request("GET", "/triscale/status").status == 404
    assert door.request("GET", "/v2/models").json == {"models": ["m"]}


def test_a_model_may_be_called_as_the_pages_are(service: FakeService) -> None:
    assert link(service).request("GET", "/v2/models/m").json["name"] == "m"
    assert link(service).request("GET", "/triscale").status == 404
