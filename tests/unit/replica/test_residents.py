"""Loading, using and closing variants, by way of the python runtime."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from triscale.core.model import Resources
from triscale.core.pipeline import Variant
from triscale.errors import ModelError
from triscale.replica.residents import Residents

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


def residents(*models: str, root: str = "/some/root") -> Residents:
    variants = [Variant(name=f"v{i}", model=model, options={"side": 960}) for i, model in enumerate(models)]
    return Residents("detect", variants, ("next",), (root,), Resources(threads=2, lanes=3))


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
        ("{}:Missing", "module {} has no class 'Missing'"),
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
    unloading = threading.Thread(target=held.unload, args=("v0",))
    unloading.start()
    while held.enter("v0") is not None:
        held.leave(resident)  # until `unload` has taken it off the list
    log = sys.modules[module].LOG
    assert "close" not in log
    held.leave(resident)
    unloading.join(10)
    assert log[-1] == "close"


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
    assert source.LOG[-1] == ("threads", 8)


def test_closing_goes_on_past_a_model_that_raises(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    held = residents(f"{module}:CloseRaises", f"{module}:Good")
    held.load("v0")
    held.load("v1")
    held.close()
    assert "v0" in capsys.readouterr().out
    assert sys.modules[module].LOG[-1] == "close"
    assert held.load_times() == {}
