"""Is the simulator true? Against queueing theory, and what it promises in any world.

A run's mean wait must lie within the 99.9 % confidence interval of the closed form. Waits of neighbours are
correlated, so the interval comes from the means of 20 consecutive batches of requests (batch means; Law and Kelton,
Simulation Modeling and Analysis). Seeds are fixed, so nothing here fails by chance; the intervals are checked to be
narrow enough to tell a wrong model from a right one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias, cast

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from triscale.core.cluster import Node, NodeId
from triscale.core.graph import Graph
from triscale.core.pipeline import Pipeline
from triscale.core.plan import Plan, ReplicaGroup
from triscale.core.profile import Profile, inline_profile
from triscale.core.settings import Settings
from triscale.dispatch.work import Request
from triscale.sim.run import simulate
from triscale.sim.settings import Failure, SimSettings
from triscale.sim.tally import Tally
from triscale.sim.world import World
from triscale.testing.builders import pipeline, plan, stage, variant
from triscale.testing.simulations import PoissonTrace, Script, with_groups

T_999_19 = 3.883
"""Two-sided 99.9 % quantile of Student's t with 19 degrees of freedom."""
BATCHES = 20
REQUESTS = 40_000
Numbers: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
LAZY = Settings(drop="none", admission=False, refresh_s=1e6)
"""Nothing is dropped or refused: the dispatcher is a plain queue."""


# --- truth: queueing theory ---------------------------------------------------------------------------------------


class Recording(Tally):
    """Also keeps every latency, in the order of arrival."""

    def __init__(self, start: float, end: float, window_s: float) -> None:
        super().__init__(start, end, window_s)
        self.seen: list[tuple[int, float]] = []

    def ended(self, request: Request) -> None:
        self.seen.append((request.id, request.ended - request.arrived))
        super().ended(request)


def latencies(what: Pipeline, wanted: Plan, rate: float, service: str) -> Numbers:
    """Seconds from arrival to answer of about `REQUESTS` requests, after a tenth more to warm up."""
    seconds = 1.1 * REQUESTS / rate
    world = World(
        Graph.of(what),
        cast("Profile", inline_profile(what)),
        PoissonTrace(rate, seconds),
        Script(wanted, tick_s=1e6, dispatch=LAZY),
        [Node(id=NodeId("n"), cores=64.0)],
        SimSettings(service=service, seed=1, window_s=1e6),  # type: ignore[arg-type]
    )
    tally = Recording(0.0, seconds, 1e6)
    world.tally = tally
    world.run()
    values = np.array([latency for _, latency in sorted(tally.seen)])
    return values[REQUESTS // 10 :]


def assert_mean(values: Numbers, theory: float, within: float = 0.12) -> None:
    """The mean's confidence interval holds the theoretical value, and is narrower than this part of it."""
    size = len(values) // BATCHES
    means = values[: size * BATCHES].reshape(BATCHES, size).mean(axis=1)
    half = T_999_19 * means.std(ddof=1) / math.sqrt(BATCHES)
    assert half < within * theory, f"the interval +-{half:.4g} is too wide to say anything about {theory:.4g}"
    assert abs(means.mean() - theory) < half, f"{means.mean():.5g} +- {half:.2g}, but theory says {theory:.5g}"


def queue(ms: float | dict[int, float], *, lanes: int = 1, batch: int = 1) -> tuple[Pipeline, Plan]:
    what = pipeline(1e9, a=stage(variant("v", ms, max_batch=max(1, batch))))
    return what, with_groups(what, plan(what, batch=batch), a=ReplicaGroup(variants=("v",), lanes=lanes))


def erlang_c(servers: int, load: float) -> float:
    """Probability that an arrival waits in M/M/n with `load` = rate / service rate (Erlang, 1917)."""
    blocked = 1.0
    for n in range(1, servers + 1):
        blocked = load * blocked / (n + load * blocked)
    busy = load / servers
    return blocked / (1.0 - busy + busy * blocked)


def crommelin(servers: int, busy: float) -> float:
    """Mean wait in M/D/n in units of the service time (Crommelin, 1932), by its series of Poisson tails."""
    total = 0.0
    for k in range(1, 400):
        mean, least = k * servers * busy, k * servers
        head = [math.exp(n * math.log(mean) - mean - math.lgamma(n + 1)) for n in range(least + 1)]
        total += (1.0 - math.fsum(head[:-1])) - (1.0 - math.fsum(head)) / busy
    return total


def bulk_service(rate: float, seconds: Callable[[int], float], largest: int) -> tuple[float, float]:
    """Mean wait, and mean service as items see it, where one server takes what waits, at most `largest`, for
    seconds(size), and never idles while something waits: the embedded Markov chain of those whom a batch leaves
    behind (Bailey, "On queueing processes with bulk service", 1954, for batches that may begin with one item).
    """
    states = 200
    sizes = np.array([max(1, min(left, largest)) for left in range(states)])
    takes = np.array([seconds(size) for size in sizes])
    chain = np.zeros((states, states))
    for left in range(states):
        mean, rest = rate * takes[left], max(0, left - largest)
        for n in range(states - rest):
            chain[left, rest + n] = math.exp(n * math.log(mean) - mean - math.lgamma(n + 1))
        chain[left, -1] += 1.0 - chain[left].sum()
    system = np.vstack([chain.T - np.eye(states), np.ones(states)])
    share = np.linalg.lstsq(system, np.append(np.zeros(states), 1.0), rcond=None)[0]
    idle = np.array([1.0 / rate if left == 0 else 0.0 for left in range(states)])
    rests = np.maximum(0, np.arange(states) - largest)
    waiting = share @ (rests * takes + rate * takes**2 / 2.0) / (share @ (takes + idle))
    return float(waiting / rate), float(share @ (sizes * takes) / (share @ sizes))


def test_the_closed_forms_are_right_themselves() -> None:
    assert erlang_c(1, 0.7) == pytest.approx(0.7)
    assert erlang_c(2, 1.0) == pytest.approx(1.0 / 3.0)
    assert crommelin(1, 0.6) == pytest.approx(0.6 / (2.0 * 0.4)), "Pollaczek and Khinchine"
    assert bulk_service(0.6, lambda _: 1.0, 1) == pytest.approx((0.75, 1.0)), "batches of one are M/D/1"


@pytest.mark.parametrize(("servers", "busy"), [(1, 0.6), (4, 0.75)])
def test_poisson_arrivals_and_exponential_service_wait_as_erlang_says(servers: int, busy: float) -> None:
    what, wanted = queue(1.0, lanes=servers)
    values = latencies(what, wanted, 1000.0 * busy * servers, "exponential")
    wait = erlang_c(servers, servers * busy) / (1000.0 * servers * (1.0 - busy))
    assert_mean(values, wait + 0.001)
    if servers == 1:  # not only the mean: all of it is exponential
        for share in (0.5, 0.1):
            assert_mean((values > -math.log(share) / (1000.0 * (1.0 - busy))).astype(float), share, within=0.3)


@pytest.mark.parametrize(("servers", "busy"), [(1, 0.7), (3, 0.75)])
def test_poisson_arrivals_and_constant_service_wait_as_crommelin_says(servers: int, busy: float) -> None:
    what, wanted = queue(1.0, lanes=servers)
    values = latencies(what, wanted, 1000.0 * busy * servers, "fixed")
    assert_mean(values - 0.001, 0.001 * crommelin(servers, busy), within=0.2)


@pytest.mark.parametrize("largest", [4, 8])
def test_batches_wait_as_the_embedded_chain_of_bulk_service_says(largest: int) -> None:
    """A batch of one takes 1 ms, each further item a fifth more; at 80 % of what full batches can do."""

    def seconds(size: int) -> float:
        return 0.001 * (1.0 + 0.2 * (size - 1))

    what, wanted = queue({1: 1.0, largest: 1000.0 * seconds(largest)}, batch=largest)
    rate = 0.8 * largest / seconds(largest)
    assert_mean(latencies(what, wanted, rate, "fixed"), sum(bulk_service(rate, seconds, largest)))


def test_queues_in_a_row_wait_independently() -> None:
    """Departures of M/M/1 are Poisson (Burke, 1956): the second stage is M/M/1 of its own."""
    what = pipeline(1e9, a=stage(variant("v", 1.0)), b=stage(variant("v", 1.25), after="a"))
    values = latencies(what, with_groups(what, plan(what)), 500.0, "exponential")
    assert_mean(values, 1.0 / (1000.0 - 500.0) + 1.0 / (800.0 - 500.0))


# --- any world ----------------------------------------------------------------------------------------------------


NODES = (Node(id=NodeId("n1"), cores=4.0), Node(id=NodeId("n2"), cores=3.0))


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Pipeline, Script, float, SimSettings]:
    """A pipeline with plans that come and go, failures and delays; from idle to far too much."""
    fan_out = draw(st.sampled_from([0.0, 0.5, 1.0, 2.5]))
    what = pipeline(
        draw(st.sampled_from([60.0, 200.0, 1000.0])),
        partial=draw(st.sampled_from(["allow", "deny"])),
        retries=draw(st.integers(0, 2)),
        a=stage(variant("x", {1: 10.0, 8: 30.0}, accuracy=0.9, fan_out={"b": fan_out}), variant("y", 5.0)),
        b=stage(variant("v", {1: 8.0, 8: 20.0}), after="a"),
        **({"c": stage(variant("v", 4.0), after=("a", "b"), join="all")} if draw(st.booleans()) else {}),
    )
    shared = draw(st.booleans())

    def some_plan() -> Plan:
        """Within seven cores, or anything where cores are shared."""
        left = 7
        groups = {}
        for name, spec in what.stages.items():
            lanes = draw(st.integers(1, 2))
            replicas = draw(st.integers(0, 2))
            if not shared:
                replicas = min(replicas, left // lanes)
                left -= replicas * lanes
            names = tuple(v.name for v in spec.variants)
            mine = names if draw(st.booleans()) else names[:1]
            groups[name] = ReplicaGroup(variants=mine, replicas=replicas, lanes=lanes)
        cores = draw(st.sampled_from([1.0, 2.0, 3.0])) if shared else 0.0
        batch = draw(st.sampled_from([1, 8]))
        served = draw(st.sampled_from([1.0, 0.5]))
        wanted = plan(what, batch=batch, shared_cores=cores, demand=50.0, served_fraction=served)
        return with_groups(what, wanted, **groups)

    changes = {at: some_plan() for at in draw(st.lists(st.floats(0.1, 4.0), max_size=4))}
    dispatch = Settings(
        drop=draw(st.sampled_from(["none", "last_stage", "per_stage", "reroute"])), admission=draw(st.booleans())
    )
    failures = [Failure(at_s=at, stage="a", replicas=2) for at in draw(st.lists(st.floats(0.0, 5.0), max_size=2))]
    if draw(st.booleans()):
        failures.append(Failure(at_s=draw(st.floats(0.0, 4.0)), node="n1", down_s=draw(st.sampled_from([None, 1.0]))))
    settings = SimSettings(
        seed=draw(st.integers(0, 2**32)),
        cold_start_s=draw(st.sampled_from([0.0, 0.5])),
        resize_s=draw(st.sampled_from([0.0, 0.05])),
        hop_s=draw(st.sampled_from([0.0, 0.001])),
        service=draw(st.sampled_from(["profile", "fixed", "exponential"])),
        fan_out=draw(st.sampled_from(["even", "binomial", "poisson", "geometric"])),
        warmup_s=draw(st.sampled_from([0.0, 1.3])),
        window_s=draw(st.sampled_from([0.5, 1.0])),
        failures=tuple(failures),
    )
    return what, Script(some_plan(), changes, dispatch=dispatch), draw(st.sampled_from([5.0, 100.0, 400.0])), settings


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(world=worlds())
def test_whatever_happens_every_request_is_accounted_for_and_no_core_is_invented(
    world: tuple[Pipeline, Script, float, SimSettings],
) -> None:
    """`simulate` itself checks the books, per stage and in all (`books.py`), and that events advance (`loop.py`)."""
    what, script, rate, options = world
    profile = cast("Profile", inline_profile(what))
    result = simulate(what, profile, PoissonTrace(rate, 5.0), script, NODES, options)
    violations = result.violations
    assert result.requests == (
        result.answered + violations.late + violations.dropped + violations.shed + violations.failed
    )
    assert sum(cause.requests for cause in result.causes) == violations.total
    assert all(cores <= 7.0 + 1e-6 for cores in result.series.cores)
    # A batch may outlive the trace, but runs on cores that are held until it is done.
    for busy, cores in zip(result.series.busy_core_s, result.series.cores, strict=True):
        assert busy <= cores * options.window_s + 1e-6
    assert script.seen[-1].plan.stages.keys() == what.stages.keys()
    for snapshot in script.seen:
        assert sum(view.cores for view in snapshot.replicas) <= 7 or snapshot.plan.shared_cores
