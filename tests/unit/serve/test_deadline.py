from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triscale.errors import InvalidRequest
from triscale.serve.deadline import deadline_of

HEADERS = (b"triscale-timeout-ms", b"x-envoy-expected-rq-timeout-ms", b"x-request-timeout-seconds", b"grpc-timeout")


@pytest.mark.parametrize(
    ("headers", "timeout_us", "limit_s"),
    [
        ({}, 0, 2.0),
        ({b"triscale-timeout-ms": b"250"}, 0, 0.25),
        ({b"triscale-timeout-ms": b"0.5"}, 0, 0.0005),
        ({b"triscale-timeout-ms": b"0"}, 0, 0.0),
        ({b"x-envoy-expected-rq-timeout-ms": b"300"}, 0, 0.3),
        ({b"x-request-timeout-seconds": b"1.5"}, 0, 1.5),
        ({b"grpc-timeout": b"1H"}, 0, 2.0),
        ({b"grpc-timeout": b"1S"}, 0, 1.0),
        ({b"grpc-timeout": b"250m"}, 0, 0.25),
        ({b"grpc-timeout": b"99u"}, 0, 99e-6),
        ({b"grpc-timeout": b"12345678n"}, 0, 0.012345678),
        ({}, 750_000, 0.75),
        ({b"triscale-timeout-ms": b"500", b"grpc-timeout": b"200m"}, 900_000, 0.2),
        ({b"triscale-timeout-ms": b"5000", b"host": b"a"}, 9_000_000, 2.0),
    ],
)
def test_the_minimum_of_all_limits_counts(headers: dict[bytes, bytes], timeout_us: int, limit_s: float) -> None:
    assert deadline_of(100.0, 2.0, headers, timeout_us) == pytest.approx(100.0 + limit_s, abs=1e-9)


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("value", [b"", b"-1", b"nan", b"inf", b"1e3", b"250 ms", b"0x10", b"9" * 40, b"\xb2"])
def test_a_limit_that_cannot_be_read_is_refused_by_name(name: bytes, value: bytes) -> None:
    with pytest.raises(InvalidRequest, match=f"header {name.decode()} is .*; give "):
        deadline_of(0.0, 1.0, {name: value}, 0)


def test_a_negative_body_timeout_is_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"parameters\.timeout is -5; give microseconds above 0, or leave it out"):
        deadline_of(0.0, 1.0, {}, -5)


@given(
    slo_s=st.floats(0.001, 100.0),
    limits=st.dictionaries(st.sampled_from(HEADERS[:3]), st.integers(0, 10**9).map(lambda n: str(n).encode())),
    timeout_us=st.integers(0, 10**12),
)
def test_no_client_stretches_the_objective(slo_s: float, limits: dict[bytes, bytes], timeout_us: int) -> None:
    assert 0.0 <= deadline_of(0.0, slo_s, limits, timeout_us) <= slo_s
