"""One deadline out of everything that limits a request: the pipeline's SLO and what the client and its proxies said.

The minimum wins, so a client can shorten the SLO but never stretch it. All limits count from the first byte of the
request. Headers read, in the words of those who send them:

    triscale-timeout-ms               ours
    x-envoy-expected-rq-timeout-ms    Envoy and meshes built on it
    x-request-timeout-seconds         Ray Serve's clients
    grpc-timeout                      gRPC and its gateways: up to 8 digits and one of H M S m u n
    parameters.timeout                in the body, microseconds (Triton's schedule policy; 0 stands for none)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from triscale.errors import InvalidRequest

__all__ = ["deadline_of"]

_NUMBER = re.compile(rb"\d{1,12}(\.\d{1,9})?")
_GRPC = re.compile(rb"(\d{1,8})([HMSmun])")
_GRPC_UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}


def deadline_of(arrived: float, slo_s: float, headers: Mapping[bytes, bytes], timeout_us: int) -> float:
    """Monotonic seconds at which an answer is worthless. InvalidRequest for a limit that cannot be read."""
    limit_s = slo_s
    if timeout_us:
        limit_s = min(limit_s, _microseconds(timeout_us))
    if not _READERS.keys().isdisjoint(headers):
        for name, read in _READERS.items():
            if name in headers:
                limit_s = min(limit_s, read(headers[name]))
    return arrived + limit_s


def _microseconds(timeout_us: int) -> float:
    if timeout_us < 0:
        raise InvalidRequest(f"parameters.timeout is {timeout_us}; give microseconds above 0, or leave it out")
    return timeout_us * 1e-6


def _number(name: str, unit_s: float, unit: str) -> Callable[[bytes], float]:
    def read(value: bytes) -> float:
        if not _NUMBER.fullmatch(value):
            raise InvalidRequest(
                f"header {name} is {value.decode('latin-1')!r}; give a number of {unit} such as 250, or leave it out"
            )
        return float(value) * unit_s

    return read


def _grpc_timeout(value: bytes) -> float:
    match = _GRPC.fullmatch(value)
    if match is None:
        raise InvalidRequest(
            f"header grpc-timeout is {value.decode('latin-1')!r}; give up to 8 digits and one of H, M, S, m, u, n"
            " such as 250m, or leave it out"
        )
    return int(match[1]) * _GRPC_UNITS[match[2]]


_READERS: Mapping[bytes, Callable[[bytes], float]] = {
    b"triscale-timeout-ms": _number("triscale-timeout-ms", 1e-3, "milliseconds"),
    b"x-envoy-expected-rq-timeout-ms": _number("x-envoy-expected-rq-timeout-ms", 1e-3, "milliseconds"),
    b"x-request-timeout-seconds": _number("x-request-timeout-seconds", 1.0, "seconds"),
    b"grpc-timeout": _grpc_timeout,
}
