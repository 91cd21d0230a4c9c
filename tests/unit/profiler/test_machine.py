"""What is said of the machine."""

from __future__ import annotations

import os
from datetime import datetime

import pytest

from triscale.engines.machine import usable_cores
from triscale.profiler import machine
from triscale.profiler.machine import OthersLoad, process_memory, this_machine, today


def test_the_same_machine_has_the_same_id() -> None:
    assert this_machine() == this_machine()
    assert this_machine().cores == usable_cores()


def test_a_process_holds_its_memory() -> None:
    before = process_memory(os.getpid())
    held = bytearray(64 * 2**20)
    assert process_memory(os.getpid()) >= before + 60 * 2**20
    del held


def test_of_a_process_that_is_not_there_nothing_is_told() -> None:
    assert process_memory(2**22 + 1) == 0


def test_today_is_a_date_in_utc() -> None:
    assert datetime.fromisoformat(today()).utcoffset() is not None


@pytest.mark.parametrize(("everybody", "ours", "cores"), [(30.0, 10.0, 2.0), (10.0, 10.0, 0.0), (5.0, 9.0, 0.0)])
def test_the_load_of_others_is_all_load_but_ours(
    monkeypatch: pytest.MonkeyPatch, everybody: float, ours: float, cores: float
) -> None:
    now = {"now": 0.0, "all": 100.0, "own": 1.0}
    monkeypatch.setattr(machine, "monotonic", lambda: now["now"])
    monkeypatch.setattr(machine, "_all_cpu_s", lambda: now["all"])
    monkeypatch.setattr(machine, "_own_cpu_s", lambda: now["own"])
    load = OthersLoad()
    now.update({"now": 10.0, "all": 100.0 + everybody, "own": 1.0 + ours})
    assert load.cores() == pytest.approx(cores)


def test_where_the_kernel_does_not_tell_there_are_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_all_cpu_s", lambda: 0.0)
    assert OthersLoad().cores() == 0.0
