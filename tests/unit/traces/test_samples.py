from __future__ import annotations

import pytest

from triscale.errors import ConfigError
from triscale.traces.arrivals import Phase
from triscale.traces.job import Job
from triscale.traces.samples import load_function, prepare


def job(roots: str, **changes: object) -> Job:
    fields: dict[str, object] = {
        "url": "http://127.0.0.1:8000",
        "model": "echo",
        "phases": (Phase("a", 1.0, 1.0),),
        "slo_ms": 100.0,
        "source": "stub_samples:words",
        "samples": 3,
        "import_roots": (roots,),
    }
    return Job(**(fields | changes))  # type: ignore[arg-type]


def test_samples_become_requests_in_order(sources: str) -> None:
    heard: list[int] = []
    prepared = prepare(job(sources, seed=5), heard.append)
    assert heard == [1, 2, 3]
    assert [sample.inputs["text"] for sample in prepared.samples] == ["word 0 of 5", "word 1 of 5", "word 2 of 5"]
    plain = [template.plain for template in prepared.templates]
    assert all(f"word {n} of 5".encode() in request for n, request in enumerate(plain))
    assert prepared.templates[0].plain.startswith(b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n")
    assert prepared.score is None


def test_a_models_name_is_quoted_in_the_path(sources: str) -> None:
    prepared = prepare(job(sources, model="a b/c"))
    assert prepared.templates[0].plain.startswith(b"POST /v2/models/a%20b%2Fc/infer HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("no_such_module:f", r"source: cannot import 'no_such_module' .*; looked in .*Name the folder that holds it"),
        ("stub_samples:nowhere", "source: the module 'stub_samples' has no 'nowhere'"),
        ("stub_samples:not_a_function", "source: 'stub_samples:not_a_function' is a int, not a function"),
        ("stub_samples", "source is written `package.module:function`, got 'stub_samples'"),
        ("stub_samples:nothing", "source: 'stub_samples:nothing' yielded no sample for count=3, seed=0"),
        ("stub_samples:wrong", r"yields triscale.Sample, but item 0 is \{'text': 'not a Sample'\}"),
        (
            "stub_samples:unsendable",
            "sample 0 of 'stub_samples:unsendable': input 'text' is a dict, which is no tensor",
        ),
    ],
)
def test_a_bad_source_is_named_with_what_is_amiss(source: str, message: str, sources: str) -> None:
    with pytest.raises(ConfigError, match=message):
        prepare(job(sources, source=source))


def test_a_bad_score_is_found_before_the_run(sources: str) -> None:
    with pytest.raises(ConfigError, match="score: the module 'stub_samples' has no 'nowhere'"):
        prepare(job(sources, score="stub_samples:nowhere"))


def test_installed_functions_need_no_root() -> None:
    assert load_function("json:dumps", (), "score")([1]) == "[1]"
