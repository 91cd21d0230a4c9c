"""Limits are in force for all replicas or for none, and the log says which."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from triscale.core.cluster import ReplicaId
from triscale.engines import limits
from triscale.engines.limits import Limits

A, B = ReplicaId("a"), ReplicaId("b")


class FakeGroup:
    def __init__(self, cores: int) -> None:
        self.path = Path("x")
        self.pids: list[int] = []
        self.cores = cores

    def add(self, pid: int) -> None:
        self.pids.append(pid)

    def limit(self, cores: int) -> None:
        if cores == 7:
            raise OSError("seven")
        self.cores = cores


class FakeCgroups:
    version = 2

    def __init__(self) -> None:
        self.made: dict[str, FakeGroup] = {}
        self.closed = 0

    def create(self, name: str, cores: int) -> FakeGroup:
        self.made[name] = FakeGroup(cores)
        return self.made[name]

    def release(self, group: FakeGroup) -> None:
        self.made = {name: other for name, other in self.made.items() if other is not group}

    def close(self) -> None:
        self.made.clear()
        self.closed += 1


@pytest.fixture
def cgroups(monkeypatch: pytest.MonkeyPatch) -> FakeCgroups:
    found = FakeCgroups()
    monkeypatch.setattr(limits, "open_cgroups", lambda most: found)
    return found


def test_every_replica_has_its_limit_until_it_is_gone(cgroups: FakeCgroups, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    held = Limits(8)
    before = held.in_force
    held.enclose(A, 11, 2)
    held.enclose(B, 12, 99)
    assert {name: (group.pids, group.cores) for name, group in cgroups.made.items()} == {"a": ([11], 2), "b": ([12], 8)}
    held.change(A, 3)
    held.change(ReplicaId("unknown"), 3)
    assert cgroups.made["a"].cores == 3
    held.release(A)
    held.release(A)
    assert list(cgroups.made) == ["b"]
    held.close()
    held.close()
    assert cgroups.closed == 1
    assert (before, held.in_force) == (True, False)
    assert [record.message for record in caplog.records] == [
        "replicas keep to their cores by affinity, and by control groups (version 2)"
    ]


def test_where_there_can_be_none_nothing_is_done_and_it_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    def refuse(most: int) -> None:
        raise PermissionError("not ours")

    monkeypatch.setattr(limits, "open_cgroups", refuse)
    held = Limits(8)
    for _ in range(2):
        assert not held.in_force
        held.enclose(A, 11, 2)
        held.change(A, 3)
        held.release(A)
    held.close()
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("INFO", "replicas keep to their cores by affinity; no hard limit: not ours")
    ]


def test_one_that_cannot_be_limited_ends_the_claim_that_all_are(
    cgroups: FakeCgroups, caplog: pytest.LogCaptureFixture
) -> None:
    held = Limits(8)
    held.enclose(A, 11, 2)
    held.enclose(B, 12, 2)
    held.change(B, 7)
    assert not held.in_force
    assert cgroups.closed == 1
    assert [record.message for record in caplog.records] == [
        "replica b cannot be limited, so from now on no replica is: seven"
    ]
    held.change(A, 1)
    held.release(A)


def test_those_who_want_none_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "open_cgroups", lambda most: pytest.fail("nobody asked for groups"))
    held = Limits(8, wanted=False)
    assert not held.in_force
    held.enclose(A, 11, 2)
