"""The figures of a trace: those of simple cases by hand, those of random ones by theory."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from triscale.traces.processes import Even, Gamma, Poisson, Process
from triscale.traces.readers.timestamps import count_timestamps
from triscale.traces.shapes import Constant, Diurnal, Levels, Ramp
from triscale.traces.statistics import TraceSummary, count_seconds, rates_of, summarise
from triscale.traces.trace import AnyShape, AnyTrace, Paced, Recorded


def summary(trace: AnyTrace, seed: int = 1) -> TraceSummary:
    return summarise(trace, rates_of(trace), count_seconds(trace.arrivals(random.Random(seed)), trace.seconds))


def paced(shape: AnyShape, process: Process) -> Paced:
    return Paced(name="test", shape=shape, process=process)


def test_figures_by_hand() -> None:
    found = summary(paced(Levels((2.0, 4.0, 6.0, 8.0)), Even()).scaled(1.0))
    assert (found.name, found.seconds, found.requests, found.expected) == ("test, rates times 1", 4.0, 20, 20.0)
    assert (found.rate.mean, found.rate.median, found.rate.p99, found.rate.max) == (5.0, 4.0, 8.0, 8.0)
    assert found.counts == found.rate
    assert found.dispersion == pytest.approx(20.0 / 3.0 / 5.0)
    assert found.dispersion_around_rate == 0.0


def test_rates_are_means_over_each_second_the_last_one_short() -> None:
    assert rates_of(paced(Ramp(0.0, 10.0, 2.5), Even())) == pytest.approx([2.0, 6.0, 9.0])
    assert count_seconds([0.0, 0.99, 1.0, 2.4], 2.5) == [2, 1, 1]


@pytest.mark.parametrize(("process", "dispersion"), [(Poisson(), 1.0), (Gamma(4.0), 4.0), (Gamma(0.25), 0.25)])
def test_dispersion_at_one_rate_is_that_of_the_process(process: Process, dispersion: float) -> None:
    found = summary(paced(Constant(200.0, 2000.0), process))
    assert found.dispersion == pytest.approx(dispersion, rel=0.12)
    assert found.dispersion_around_rate == pytest.approx(dispersion, rel=0.12)


def test_a_moving_rate_raises_the_dispersion_but_not_the_one_around_it() -> None:
    found = summary(paced(Diurnal(20.0, 180.0, 1000.0), Poisson()))
    assert found.dispersion == pytest.approx(1.0 + 80.0**2 / 2.0 / 100.0, rel=0.1)
    assert found.dispersion_around_rate == pytest.approx(1.0, rel=0.15)


def test_where_there_is_nothing_to_compare_there_is_no_figure(tmp_path: Path) -> None:
    assert summary(paced(Constant(5.0, 1.5), Even())).dispersion is None
    path = tmp_path / "times.txt"
    path.write_text("0.5\n1.5\n1.75\n")
    found = summary(Recorded(name="test", shape=count_timestamps(path), path=str(path)))
    assert found.dispersion == pytest.approx(1.0 / 3.0)
    assert found.dispersion_around_rate is None
