"""Traces: the load as one value, drawn as a stream, with the rate known beforehand."""

from __future__ import annotations

import itertools
import math
import random
import statistics
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triscale.errors import ConfigError
from triscale.traces.processes import Even, Gamma, Poisson, Process
from triscale.traces.readers.timestamps import count_timestamps
from triscale.traces.shapes import Constant, Diurnal, Levels, Mmpp, Ramp, Spike, Staircase
from triscale.traces.statistics import count_seconds
from triscale.traces.trace import AnyShape, AnyTrace, Paced, Recorded, Trace

SHAPES = st.one_of(
    st.builds(Constant, st.floats(0.0, 200.0), st.floats(0.5, 6.0)),
    st.builds(Ramp, st.floats(0.0, 200.0), st.floats(0.0, 200.0), st.floats(0.5, 6.0)),
    st.builds(lambda rates, each: Levels(tuple(rates), each), st.lists(st.floats(0.0, 99.0), min_size=1, max_size=6),
              st.floats(0.1, 2.0)),
    st.builds(Staircase, st.floats(0.0, 99.0), st.floats(0.0, 99.0), st.floats(20.0, 50.0), st.floats(0.1, 1.0)),
    st.builds(Diurnal, st.floats(0.0, 50.0), st.floats(50.0, 150.0), st.floats(0.5, 6.0)),
    st.builds(Mmpp, st.just((5.0, 100.0)), st.just((1.0, 0.5)), st.floats(0.5, 6.0), st.integers(0, 99)),
)  # fmt: skip
POISSON = Poisson()
PROCESSES = st.sampled_from([Poisson(), Even(), Gamma(0.5), Gamma(4.0)])


def paced(shape: AnyShape, process: Process = POISSON) -> Paced:
    return Paced(name="test", shape=shape, process=process)


def drawn(trace: Trace, seed: int = 1) -> list[float]:
    return list(trace.arrivals(random.Random(seed)))


@given(SHAPES, PROCESSES, st.integers(0, 99), st.floats(0.2, 3.0), st.floats(0.2, 3.0), st.floats(0.0, 0.9))
def test_whatever_is_done_to_a_trace_its_arrivals_ascend_inside_it(
    shape: AnyShape, process: Process, seed: int, rate: float, time: float, cut: float
) -> None:
    trace = paced(shape, process)
    trace = trace.stretched(time).sliced(cut * trace.stretched(time).seconds).scaled(rate)
    found = drawn(trace, seed)
    assert found == sorted(found)
    assert all(0.0 <= at < trace.seconds for at in found)
    assert found == drawn(trace, seed)


@given(SHAPES, st.floats(0.2, 3.0), st.floats(0.2, 3.0))
def test_scaling_multiplies_the_rate_and_stretching_the_time(shape: AnyShape, rate: float, time: float) -> None:
    plain = paced(shape)
    changed = plain.scaled(rate).stretched(time)
    assert changed.seconds == pytest.approx(plain.seconds * time)
    assert changed.expected() == pytest.approx(plain.expected() * rate * time, abs=1e-9)
    assert changed.rate_function.high == pytest.approx(plain.rate_function.high * rate)
    at = plain.seconds * 0.37
    assert changed.expected(0.0, at * time) == pytest.approx(plain.expected(0.0, at) * rate * time, abs=1e-6)


@given(SHAPES, st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_a_slice_expects_what_the_whole_expects_there(shape: AnyShape, a: float, b: float) -> None:
    trace = paced(shape)
    start, end = sorted((a * trace.seconds, b * trace.seconds))
    if end - start > 1e-6:
        part = trace.sliced(start, end)
        assert part.seconds == end - start
        assert part.expected() == pytest.approx(trace.expected(start, end), abs=1e-6)


def test_a_range_is_met_at_both_ends_and_the_shape_stays() -> None:
    trace = paced(Levels((3.0, 5.0, 11.0))).to_range(50.0, 425.0)
    assert [trace.rate(at) for at in (0.0, 1.0, 2.0)] == [50.0, 50.0 + 375.0 / 4.0, 425.0]
    assert trace.rate_function.low == 50.0
    assert trace.rate_function.high == 425.0


def test_changes_apply_in_the_order_in_which_they_were_made() -> None:
    ramp = paced(Ramp(0.0, 100.0, 100.0))
    assert ramp.sliced(0.0, 50.0).to_range(10.0, 20.0).rate_function.high == 20.0
    assert ramp.to_range(10.0, 20.0).sliced(0.0, 50.0).rate_function.high == 15.0
    assert ramp.stretched(0.5).sliced(10.0).rate(0.0) == pytest.approx(20.0)


@pytest.mark.parametrize("process", [Poisson(), Gamma(0.25), Gamma(4.0)])
def test_the_mean_number_of_arrivals_is_the_area_under_the_rate(process: Process) -> None:
    trace = paced(Diurnal(10.0, 90.0, 10.0), process)
    runs = [drawn(trace, seed) for seed in range(300)]
    for start, end in ((0.0, 1.5), (4.0, 6.0), (0.0, 10.0)):
        counts = [sum(1 for at in run if start <= at < end) for run in runs]
        spread = statistics.stdev(counts) / math.sqrt(len(counts))
        assert statistics.mean(counts) == pytest.approx(trace.expected(start, end), abs=3.5 * spread)


@pytest.mark.parametrize(("cv2", "rate"), [(0.25, 80.0), (4.0, 80.0)])
def test_gamma_arrivals_of_one_rate_have_the_chosen_burstiness(cv2: float, rate: float) -> None:
    found = drawn(paced(Constant(rate, 500.0), Gamma(cv2)))
    gaps = [b - a for a, b in itertools.pairwise(found)]
    assert statistics.variance(gaps) / statistics.mean(gaps) ** 2 == pytest.approx(cv2, rel=0.08)


def test_an_mmpp_has_the_dispersion_of_the_closed_form() -> None:
    # Fischer and Meier-Hellstern 1993: IDC(t) = 1 + 2 p q (a - b)^2 / (r m) (1 - (1 - exp(-r t)) / (r t)), where p and
    # q are the shares of the states, m the mean rate and r the sum of the rates at which the states are left.
    (a, b), (first, second), t = (20.0, 120.0), (3.0, 1.0), 1.0
    p, q, r = first / (first + second), second / (first + second), 1.0 / first + 1.0 / second
    mean = p * a + q * b
    dispersion = 1.0 + 2.0 * p * q * (a - b) ** 2 / (r * mean) * (1.0 - (1.0 - math.exp(-r * t)) / (r * t))
    trace = paced(Mmpp((a, b), (first, second), 12_000.0, seed=5))
    counts = count_seconds(trace.arrivals(random.Random(1)), trace.seconds)
    assert statistics.mean(counts) == pytest.approx(mean, rel=0.04)
    assert statistics.variance(counts) / statistics.mean(counts) == pytest.approx(dispersion, rel=0.06)


def test_the_rate_does_not_depend_on_the_seed_of_the_arrivals() -> None:
    trace = paced(Mmpp((0.0, 100.0), (2.0, 2.0), 100.0))
    for seed in (1, 2):
        assert all(trace.rate(at) == 100.0 for at in drawn(trace, seed))


def test_even_arrivals_of_whole_counts_are_exactly_those_counts() -> None:
    trace = paced(Levels((3.0, 0.0, 7.0, 1.0)), Even())
    assert count_seconds(trace.arrivals(random.Random(1)), trace.seconds) == [3, 0, 7, 1]


def test_arrivals_are_a_stream() -> None:
    day = paced(Constant(1000.0, 86_400.0)).arrivals(random.Random(1))
    assert len(list(itertools.islice(day, 5))) == 5


# Recorded timestamps.


@pytest.fixture
def times(tmp_path: Path) -> Path:
    path = tmp_path / "times.txt"
    path.write_text("".join(f"{at!r}\n" for at in drawn(paced(Spike(20.0, 120.0, 10.0, 5.0, 30.0)))))
    return path


def recorded(path: Path) -> Recorded:
    return Recorded(name="test", shape=count_timestamps(path), path=str(path))


def test_recorded_moments_come_back_exactly_whatever_the_seed(times: Path) -> None:
    moments = [float(line) for line in times.read_text().split()]
    assert drawn(recorded(times), 1) == drawn(recorded(times), 2) == moments
    assert recorded(times).seconds == 30.0
    assert recorded(times).rate(12.3) == sum(1 for at in moments if 12.0 <= at < 13.0)
    assert recorded(times).expected() == len(moments)


def test_a_slice_of_recorded_moments_is_exact(times: Path) -> None:
    moments = [float(line) for line in times.read_text().split()]
    part = recorded(times).sliced(8.0, 16.5)
    assert drawn(part) == [at - 8.0 for at in moments if 8.0 <= at < 16.5]
    assert part.seconds == 8.5


@pytest.mark.parametrize("factor", [0.3, 1.0, 2.0, 3.7])
def test_scaled_moments_are_thinned_or_copied_on_average(times: Path, factor: float) -> None:
    whole = len(drawn(recorded(times)))
    scaled = recorded(times).scaled(factor)
    found = [drawn(scaled, seed) for seed in range(20)]
    spread = 3.5 * math.sqrt(whole * 0.25 / len(found))
    assert statistics.mean(map(len, found)) == pytest.approx(whole * factor, abs=spread + 1e-9)
    assert all(run == sorted(run) and 0.0 <= run[0] <= run[-1] < 30.0 for run in found)
    assert scaled.expected() == pytest.approx(whole * factor)
    assert len(set(found[0])) == len(found[0])


@pytest.mark.parametrize("factor", [0.25, 2.0])
def test_stretched_moments_keep_their_rates(times: Path, factor: float) -> None:
    stretched = recorded(times).stretched(factor)
    found = [drawn(stretched, seed) for seed in range(40)]
    assert stretched.seconds == 30.0 * factor
    assert all(run == sorted(run) and run[-1] < stretched.seconds for run in found)
    peak = [sum(1 for at in run if 10.0 * factor <= at < 15.0 * factor) / (5.0 * factor) for run in found]
    assert statistics.mean(peak) == pytest.approx(stretched.expected(10 * factor, 15 * factor) / (5 * factor), rel=0.05)


def test_recorded_moments_on_a_range_become_poisson_arrivals(times: Path) -> None:
    trace = recorded(times).to_range(50.0, 425.0)
    assert isinstance(trace, Paced)
    assert (trace.rate_function.low, trace.rate_function.high) == (50.0, 425.0)
    assert drawn(trace, 1) != drawn(trace, 2)


def test_a_recording_that_grew_since_is_told(times: Path) -> None:
    trace = recorded(times)
    with times.open("a") as file:
        file.write("31.5\n")
    with pytest.raises(ConfigError, match=r"times.txt:\d+: '31.5' is 32 s after the start, but the trace ends at 30 s"):
        drawn(trace)


# Mistakes, and the way through JSON.


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.scaled(0.0), "scale is 0.0, but the rate is scaled by a finite number above 0"),
        (lambda t: t.scaled(math.inf), "scale is inf"),
        (lambda t: t.stretched(-1.0), "stretch is -1.0, but time is stretched by a finite number above 0"),
        (lambda t: t.sliced(5.0, 5.0), "the slice from 5 s to 5 s is not inside the trace, which lasts 10 s"),
        (lambda t: t.sliced(0.0, 11.0), "from 0 s to 11 s is not inside"),
        (lambda t: t.sliced(math.nan), "from nan s to 10 s is not inside"),
        (lambda t: t.sliced(0.0, 5.0).sliced(0.0, 6.0), "which lasts 5 s"),
        (lambda t: t.to_range(5.0, 5.0), "the range 5:5 is not one of rates"),
        (lambda t: t.to_range(-1.0, 5.0), "the range -1:5"),
        (lambda t: t.to_range(1.0, 5.0), "the rate is 3 requests/s all the time: there is no shape"),
    ],
)
def test_what_cannot_be_done_to_a_trace_is_refused(change: object, message: str) -> None:
    assert callable(change)
    with pytest.raises(ConfigError, match=message):
        change(paced(Constant(3.0, 10.0)))


def test_a_trace_travels_as_json(times: Path) -> None:
    for trace in (
        paced(Mmpp((1.0, 50.0), (3.0, 1.0), 60.0), Gamma(3.0)).scaled(2.0).sliced(10.0).to_range(5.0, 50.0),
        paced(Ramp(1.0, 5.0)).stretched(2.0),
        recorded(times).scaled(1.5),
    ):
        back = msgspec.json.decode(msgspec.json.encode(trace), type=AnyTrace)
        assert back == trace
        assert drawn(back) == drawn(trace)


def test_a_label_tells_what_was_done() -> None:
    trace = paced(Ramp(1.0, 5.0)).sliced(5.0).stretched(2.0).to_range(1.0, 3.0).scaled(2.0)
    assert trace.label == "test, seconds 5 to the end, time times 2, rates from 1 to 3, rates times 2"
