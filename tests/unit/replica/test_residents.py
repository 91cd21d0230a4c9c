"""Loading, using and closing variants, by way of the python runtime."""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from triscale.core.model import Resources
from triscale.core.pipeline import Variant
from triscale.errors import ModelError
from triscale.replica.residents import NoRoom, Residents

SOURCE = """
import threading
import triscale

LOG = []
LOADING = threading.Event()
GO_ON = threading.Event()

class Good(triscale.Model):
    def load(self, options, resources):
        LOG.append(("load", dict(options), resources.threads, resources.lanes))
    def warmup(self):
        LOG.append("warmup")
    def prepare_threads(self, threads):
        LOG.append(("prepare", threads))
    def set_threads(self, threads):
        LOG.append(("threads", threads))
    def close(self):
        LOG.append("close")

class Slow(Good):
    def load(self, options, resources):
        LOADING.set()
        assert GO_ON.wait(10)

class Raises(triscale.Model):
    def load(self, options, resources):
        raise RuntimeError("weights are gone")

class CloseRaises(Good):
    def close(self):
        raise RuntimeError("cannot let go")

class Refuses(Good):
    def set_threads(self, threads):
        raise ValueError("no")

class NotAModel:
    pass

function = len
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    name = f"models_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(SOURCE)
    (tmp_path / f"{name}_needs.py").write_text("import a_module_that_is_not_installed\n")
    (tmp_path / f"{name}_broken.py").write_text("raise ValueError('at import')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield name
    for loaded in [loaded for loaded in sys.modules if loaded.startswith(name)]:
        del sys.modules[loaded]


def residents(*models: str, root: str = "/some/root", **options: Any) -> Residents:
    variants = [Variant(name=f"v{i}", model=model, options={"side": 960}) for i, model in enumerate(models)]
    return Residents("detect", variants, ("next",), (root,), Resources(threads=2, lanes=3), **options)


def test_a_model_is_loaded_with_its_options_and_resources_then_warmed_up(module: str) -> None:
    held = residents(f"{module}:Good")
    resident = held.load("v0")
    log = sys.modules[module].LOG
    assert log == [("load", {"side": 960}, 2, 3), "warmup"]
    assert held.load("v0") is resident, "loading again changes nothing"
    assert len(log) == 2
    assert held.load_times().keys() == {"v0"}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            "no_such_module_here:X",
            "there is no module 'no_such_module_here'; looked in /some/root and in the installed",
        ),
        ("os.nothing:X", "there is no module 'os.nothing'"),
        ("{}:Missing", "has no class 'Missing', but "),
        ("{}:Missing", "; correct the variant's `model`"),
        ("json:Missing", "module json has no class 'Missing' and no other triscale.Model"),
        ("{}:NotAModel", "'NotAModel' is not a subclass of triscale.Model"),
        ("{}:function", "'function' is not a subclass of triscale.Model"),
        ("{}:Raises", "failed to load: RuntimeError: weights are gone"),
        ("{}_broken:X", "importing it failed: ValueError: at import"),
        ("{}_needs:X", "importing it failed: No module named 'a_module_that_is_not_installed'"),
    ],
)
def test_what_cannot_be_loaded_says_which_variant_and_why(module: str, model: str, message: str) -> None:
    model = model.format(module)
    with pytest.raises(ModelError) as caught:
        residents(model).load("v0")
    assert str(caught.value).startswith(f"variant v0 of stage detect ({model})")
    assert message.format(module) in str(caught.value)


def test_a_variant_in_use_is_closed_when_it_is_left(module: str) -> None:
    held = residents(f"{module}:Good")
    held.load("v0")
    resident = held.enter("v0")
    assert resident is not None
    assert held.withdraw("v0") is resident
    assert held.enter("v0") is None
    releasing = threading.Thread(target=held.release, args=(resident,))
    releasing.start()
    log = sys.modules[module].LOG
    assert "close" not in log
    held.leave(resident)
    releasing.join(10)
    assert log[-1] == "close"
    with pytest.raises(ModelError, match="variant 'v0' of stage detect is not resident"):
        held.withdraw("v0")


def test_a_model_that_is_closed_is_let_go_whoever_still_knows_the_variant(module: str) -> None:
    held = residents(f"{module}:Good")
    resident = held.load("v0")
    model = weakref.ref(resident.model)
    held.release(held.withdraw("v0"))
    assert model() is None


def test_a_resize_during_a_load_reaches_the_new_model(module: str) -> None:
    held = residents(f"{module}:Slow")
    loading = threading.Thread(target=held.load, args=("v0",))
    loading.start()
    __import__(module)
    source = sys.modules[module]
    assert source.LOADING.wait(10)
    held.set_threads(Resources(threads=8, lanes=1))
    source.GO_ON.set()
    loading.join(10)
    assert source.LOG[-1] == ("prepare", 8), "it is ready when the first batch tells it"
    resident = held.enter("v0")
    assert resident is not None
    resident.use_threads(held.resources.threads)
    assert source.LOG[-1] == ("threads", 8)


def test_a_model_is_told_its_threads_once_per_thread_and_number(module: str) -> None:
    held = residents(f"{module}:Good")
    resident = held.load("v0")
    log = sys.modules[module].LOG
    log.clear()
    for threads in (2, 2, 3, 3):
        resident.use_threads(threads)
    other = threading.Thread(target=resident.use_threads, args=(3,))
    other.start()
    other.join()
    assert log == [("threads", 2), ("threads", 3), ("threads", 3)]


def test_when_one_model_refuses_threads_the_others_are_told_the_old_number_again(module: str) -> None:
    held = residents(f"{module}:Good", f"{module}:Refuses")
    held.load("v0")
    held.load("v1")
    with pytest.raises(ModelError, match=r"variant v1 of stage detect .*: set_threads\(8\) raised ValueError: no"):
        held.set_threads(Resources(threads=8, lanes=1))
    assert sys.modules[module].LOG[-2:] == [("threads", 8), ("threads", 2)]
    assert held.resources == Resources(threads=2, lanes=3)


class Memory:
    """What a process holds: 100 MiB, and `size` more for each model that was loaded and not closed."""

    def __init__(self, module: str, size: int) -> None:
        self.module = module
        self.size = size

    def __call__(self) -> int:
        log = sys.modules[self.module].LOG if self.module in sys.modules else []
        loads = sum(isinstance(entry, tuple) and entry[0] == "load" for entry in log)
        return int(100 + (loads - log.count("close")) * self.size) * 2**20


def test_a_variant_that_does_not_fit_is_closed_again_and_not_tried_a_second_time(module: str) -> None:
    held = residents(f"{module}:Good", f"{module}:Good", memory_bytes=350 * 2**20, measure=Memory(module, 200))
    held.load("v0")
    log = sys.modules[module].LOG
    log_of_first = list(log)
    message = (
        r"variant v1 of stage detect .* takes 200 MiB, which does not fit: the replica holds 300 MiB and may hold "
        r"350 MiB; unload another variant or give it more memory"
    )
    for _ in range(2):
        with pytest.raises(NoRoom, match=message):
            held.load("v1")
    assert log[len(log_of_first) :] == [("load", {"side": 960}, 2, 3), "warmup", "close"]
    assert held.load_times().keys() == {"v0"}
    held.release(held.withdraw("v0"))
    held.load("v1")
    assert held.load_times().keys() == {"v1"}


def test_closing_goes_on_past_a_model_that_raises(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    held = residents(f"{module}:CloseRaises", f"{module}:Good")
    held.load("v0")
    held.load("v1")
    held.close()
    assert "v0" in capsys.readouterr().out
    assert sys.modules[module].LOG[-1] == "close"
    assert held.load_times() == {}
