"""Fan-out: the right mean and shape, the same draws for the same request under every policy."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any, cast

import pytest

from triscale.core.graph import Graph
from triscale.core.pipeline import Pipeline
from triscale.core.profile import Profile, inline_profile
from triscale.dispatch.work import Batch
from triscale.sim.fan_out import Emission, cumulative, mix, uniform
from triscale.sim.settings import FanOut
from triscale.testing.builders import pipeline, stage, variant

KINDS: tuple[FanOut, ...] = ("even", "binomial", "poisson", "geometric")


def moments(below: list[float]) -> tuple[float, float]:
    """Mean and variance of the distribution with these cumulative probabilities."""
    chances = [high - low for low, high in zip([0.0, *below], [*below, 1.0], strict=True)]
    mean = math.fsum(n * p for n, p in enumerate(chances))
    return mean, math.fsum((n - mean) ** 2 * p for n, p in enumerate(chances))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mean", [0.0, 0.3, 1.0, 2.5, 7.0, 40.0])
def test_the_mean_is_the_variants_and_the_variance_the_distributions(kind: FanOut, mean: float) -> None:
    found, variance = moments(cumulative(kind, mean))
    part = mean - math.floor(mean)
    trials = max(1, math.ceil(2.0 * mean))
    expected = {
        "even": part * (1.0 - part),
        "binomial": mean * (1.0 - mean / trials),
        "poisson": mean,
        "geometric": mean * (1.0 + mean),
    }[kind]
    assert found == pytest.approx(mean, abs=1e-8, rel=1e-8)
    assert variance == pytest.approx(expected, abs=1e-6, rel=1e-6)


def ocr(small: float = 2.5, partial: str = "deny") -> Pipeline:
    return pipeline(
        partial=partial,  # type: ignore[arg-type]
        detect=stage(
            variant("large", 1.0, fan_out={"read": 2.5}, accuracy=0.9),
            variant("small", 1.0, fan_out={"read": small}),
        ),
        read=stage(variant("v", 1.0), after="detect"),
    )


def emission(what: Pipeline, kind: FanOut = "even", seed: int = 0) -> Emission:
    return Emission(Graph.of(what), cast("Profile", inline_profile(what)), kind, seed)


def batch(stage: int, variant: int, keys: list[Any]) -> Batch:
    items = [SimpleNamespace(payload=key, request=SimpleNamespace(id=key)) for key in keys]
    return cast("Batch", SimpleNamespace(stage=stage, variant=variant, items=items))


def counts(made: list[Any]) -> list[int]:
    return [len(children[0]) for _, children in made]


@pytest.mark.parametrize("kind", KINDS)
def test_draws_over_requests_have_the_mean(kind: FanOut) -> None:
    drawn = counts(emission(ocr(), kind).results(batch(0, 0, list(range(20_000)))))
    _, variance = moments(cumulative(kind, 2.5))
    assert sum(drawn) / len(drawn) == pytest.approx(2.5, abs=4.0 * math.sqrt(variance / len(drawn)))


def test_a_request_draws_the_same_whatever_it_is_batched_with() -> None:
    it = emission(ocr(), "poisson")
    together = counts(it.results(batch(0, 0, [1, 2, 3])))
    assert together == [counts(it.results(batch(0, 0, [key])))[0] for key in (1, 2, 3)]


def test_another_variant_sees_the_same_object_with_another_mean() -> None:
    """The same uniform number behind both: more items where the mean is higher, never fewer."""
    it = emission(ocr(small=1.5), "poisson")
    large, small = (counts(it.results(batch(0, v, list(range(2000))))) for v in (0, 1))
    assert all(few <= many for few, many in zip(small, large, strict=True))
    assert sum(small) < sum(large)


def test_another_seed_draws_otherwise() -> None:
    one, other = (counts(emission(ocr(), "poisson", seed).results(batch(0, 0, list(range(100))))) for seed in (0, 1))
    assert one != other


def test_keys_of_siblings_and_of_neighbours_are_all_different() -> None:
    made = emission(ocr(), "poisson").results(batch(0, 0, list(range(5000))))
    keys = [key for _, children in made for key in children[0]]
    assert len(set(keys)) == len(keys)


def test_hashes_are_uniform_and_neighbours_independent() -> None:
    """Sixteen cells, and pairs of neighbours in 8 x 8: neither chi-square is beyond its 0.1 % point."""
    numbers = [uniform(mix(key, 12345)) for key in range(64_000)]
    cells = [0] * 16
    pairs = [0] * 64
    for number in numbers:
        cells[int(number * 16)] += 1
    for one, next_one in zip(numbers[::2], numbers[1::2], strict=True):
        pairs[int(one * 8) * 8 + int(next_one * 8)] += 1
    for seen, limit in ((cells, 37.7), (pairs, 103.4)):
        expected = sum(seen) / len(seen)
        assert sum((count - expected) ** 2 / expected for count in seen) < limit


def test_items_that_emit_nothing_are_answers_only_where_parts_are_allowed() -> None:
    (deny,) = emission(ocr()).results(batch(1, 0, [1]))
    (allow,) = emission(ocr(partial="allow")).results(batch(1, 0, [1]))
    assert (deny[0], allow[0]) == (None, "output")


def test_whole_numbers_need_no_keys() -> None:
    whole = ocr(small=3.0)
    fixed = pipeline(
        detect=stage(variant("v", 1.0, fan_out={"read": 3.0})), read=stage(variant("v", 1.0), after="detect")
    )
    assert not emission(fixed).keyed
    assert counts(emission(fixed).results(batch(0, 0, [None, None]))) == [3, 3]
    assert emission(whole).keyed, "the other variant emits 2 or 3"
    assert emission(fixed, "poisson").keyed


def test_a_join_draws_by_its_request() -> None:
    gather = pipeline(
        a=stage(variant("v", 1.0, fan_out={"b": 2.0})),
        b=stage(variant("v", 1.0, fan_out={"c": 0.5}), after="a", join="all"),
        c=stage(variant("v", 1.0), after="b"),
    )
    it = emission(gather)
    assert not it.keyed, "what is gathered needs no keys of its own"
    assert set(counts(it.results(batch(1, 0, list(range(50)))))) == {0, 1}
