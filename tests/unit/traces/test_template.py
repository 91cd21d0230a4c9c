from __future__ import annotations

import json
import re
from typing import Any

import pytest

from triscale.traces.template import Body, Template

HEAD = b'{"inputs":[{"name":"x","data":[1.50,"\xc3\xa9"]}],"parameters":{"binary_data_output":true,"timeout":7}}'


def split(request: bytes) -> tuple[str, dict[str, str], bytes]:
    """(start line, headers, body)."""
    head, _, body = request.partition(b"\r\n\r\n")
    start, *lines = head.decode("latin-1").split("\r\n")
    pairs = [line.split(": ", 1) for line in lines]
    assert len({name.lower() for name, _ in pairs}) == len(pairs)
    return start, {name.lower(): value for name, value in pairs}, body


def template(body: Body, headers: dict[str, str] | None = None, *, deadline: bool = False) -> Template:
    return Template("h:1", "/v2/models/m/infer", body, headers or {}, deadline=deadline)


def test_a_request_goes_out_with_the_lengths_of_its_parts() -> None:
    start, headers, body = split(template(Body(HEAD, b"\0\1\2", binary=True), {"Authorization": "Bearer t"}).plain)
    assert start == "POST /v2/models/m/infer HTTP/1.1"
    assert headers == {
        "host": "h:1",
        "content-type": "application/octet-stream",
        "inference-header-content-length": str(len(HEAD)),
        "content-length": str(len(HEAD) + 3),
        "authorization": "Bearer t",
    }
    assert body == HEAD + b"\0\1\2"


def test_json_is_sent_as_json() -> None:
    _, headers, body = split(template(Body(HEAD)).plain)
    assert headers == {"host": "h:1", "content-type": "application/json", "content-length": str(len(HEAD))}
    assert body == HEAD


def test_the_callers_host_and_content_type_stand_in_for_ours() -> None:
    _, headers, _ = split(template(Body(HEAD), {"Host": "model.example.org", "content-type": "text/x"}).plain)
    assert (headers["host"], headers["content-type"]) == ("model.example.org", "text/x")


@pytest.mark.parametrize(
    ("left", "seconds", "microseconds"),
    [(0.25, "0.250000", 250_000), (3600.0, "3600.000000", 3_600_000_000), (-1.0, "0.000001", 1), (0.0, "0.000001", 1)],
)
def test_what_is_left_is_told_in_header_and_body_and_is_never_nothing(
    left: float, seconds: str, microseconds: int
) -> None:
    body = Body(HEAD, b"\0\1", binary=True)
    _, headers, sent = split(b"".join(template(body, deadline=True).wire(b"", left)))
    assert headers["x-request-timeout-seconds"] == seconds
    assert int(headers["content-length"]) == len(sent)
    end = int(headers["inference-header-content-length"])
    assert sent[end:] == b"\0\1"
    document: dict[str, Any] = json.loads(sent[:end])
    assert document == json.loads(HEAD) | {"parameters": {"binary_data_output": True, "timeout": microseconds}}
    assert b"1.50" in sent  # numbers stay as they were written


@pytest.mark.parametrize("head", [b'{"inputs":[]}', b'{"parameters":{},"inputs":[]}', b'{"parameters":{"timeout":1}}'])
def test_a_timeout_finds_its_place_in_any_request(head: bytes) -> None:
    _, headers, sent = split(b"".join(template(Body(head), deadline=True).wire(b"", 0.5)))
    assert json.loads(sent) == json.loads(head) | {"parameters": {"timeout": 500_000}}
    assert int(headers["content-length"]) == len(sent)


def test_a_raw_tensor_without_json_has_its_deadline_in_the_header_only() -> None:
    _, headers, sent = split(b"".join(template(Body(b"", b"\0\1", binary=True), deadline=True).wire(b"", 0.5)))
    assert (headers["inference-header-content-length"], headers["content-length"]) == ("0", "2")
    assert headers["x-request-timeout-seconds"] == "0.500000"
    assert sent == b"\0\1"


def test_an_id_is_sent_with_a_deadline_or_without() -> None:
    for deadline in (False, True):
        _, headers, sent = split(b"".join(template(Body(HEAD), deadline=deadline).wire(b"replay-1-2", 0.5)))
        assert headers["x-request-id"] == "replay-1-2"
        assert int(headers["content-length"]) == len(sent)
        assert ("x-request-timeout-seconds" in headers) is deadline


def test_what_differs_never_changes_a_length() -> None:
    made = template(Body(HEAD), deadline=True)
    lengths = {len(b"".join(made.wire(b"", left))) for left in (1e-9, 0.1, 9.9)}
    assert len(lengths) == 1
    assert re.search(rb'"timeout": +250000,', b"".join(made.wire(b"", 0.25)))
