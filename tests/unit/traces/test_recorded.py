from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from triscale.errors import ConfigError
from triscale.traces.payload import PayloadFiles
from triscale.traces.recorded import read_bodies
from triscale.traces.template import Body

ONE = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":[1.0]}]}'
TWO = ONE.replace(b"1.0", b"2.0")


def binary_head(size: int) -> bytes:
    parameters = {"binary_data_size": size}
    tensor = {"name": "\u00e9", "datatype": "BYTES", "shape": [1], "parameters": parameters}
    return json.dumps({"inputs": [tensor]}, ensure_ascii=False).encode()


@pytest.fixture
def read(tmp_path: Path):  # type: ignore[no-untyped-def]
    def read(*contents: bytes, header_length: int | None = None) -> tuple[Body, ...]:
        paths = []
        for number, content in enumerate(contents):
            path = tmp_path / f"{number}.body"
            path.write_bytes(content)
            paths.append(str(path))
        return read_bodies(PayloadFiles(paths=tuple(paths), header_length=header_length))

    return read


def test_json_lines_and_several_files_go_round_in_order(read) -> None:  # type: ignore[no-untyped-def]
    assert read(ONE + b"\n\n" + TWO + b"\r\n", TWO) == (Body(ONE), Body(TWO), Body(TWO))


def test_one_json_value_may_take_several_lines(read) -> None:  # type: ignore[no-untyped-def]
    pretty = json.dumps(json.loads(ONE), indent=2).encode()
    assert read(b"\n" + pretty + b"\n") == (Body(pretty),)


@pytest.mark.parametrize("text", [b"abc", b"0123456789"])
def test_where_the_json_of_a_binary_body_ends_is_found(text: bytes, read) -> None:  # type: ignore[no-untyped-def]
    """Ten bytes of text make the tensor begin with a line feed, and the name is not ASCII."""
    raw = struct.pack("<I", len(text)) + text
    head = binary_head(len(raw))
    assert read(head + raw) == (Body(head, raw, binary=True),)
    assert read(head + raw, header_length=len(head)) == (Body(head, raw, binary=True),)


def test_a_file_may_be_one_raw_tensor(read) -> None:  # type: ignore[no-untyped-def]
    assert read(b"\xff\xd8\xff", header_length=0) == (Body(b"", b"\xff\xd8\xff", binary=True),)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b" \n", "is empty; it holds the body of an infer request"),
        (b"\xff\xd8", r"0.body:1: is not the JSON of an infer request: .*for one raw tensor without JSON give"),
        (ONE + b"\n{}", "0.body:2: is not an infer request: Object missing required field `inputs`"),
        (b'{"inputs":[]}', "0.body:1: has no inputs"),
        (binary_head(9) + b"1234", "its inputs claim 9 bytes of binary data, but 4 follow the JSON"),
        (ONE + b"\n" + binary_head(4), "0.body:2: claims binary data, which JSON lines cannot hold"),
        (ONE + b"\nnonsense", "0.body:2: is not an infer request: JSON is malformed"),
    ],
)
def test_what_is_no_request_is_named_with_file_and_line(content: bytes, message: str, read) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConfigError, match=message):
        read(content)


def test_a_header_length_that_does_not_fit_is_told(read) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConfigError, match="its JSON cannot end at byte 999"):
        read(ONE, header_length=999)
    with pytest.raises(ConfigError, match="claim 4 bytes of binary data, but 5 follow the JSON"):
        read(binary_head(4) + b"12345", header_length=len(binary_head(4)))


def test_a_file_that_is_not_there_is_told() -> None:
    with pytest.raises(ConfigError, match=r"payload nowhere\.json: cannot be read: No such file"):
        read_bodies(PayloadFiles(paths=("nowhere.json",)))
