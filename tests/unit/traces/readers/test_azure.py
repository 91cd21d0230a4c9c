"""The layout of the Azure Functions trace: summed over functions, minutes as levels."""

from __future__ import annotations

from pathlib import Path

import pytest

from triscale.errors import ConfigError
from triscale.traces.readers.azure import is_azure, read_azure

TITLES = "HashOwner,HashApp,HashFunction,Trigger,1,2,3\n"
ROWS = "o1,a1,f1,http,60,0,6\no1,a1,f2,timer,1,1,1\no2,b1,f3,http,0,120,0\n"


def written(folder: Path, text: str) -> Path:
    path = folder / "azure.csv"
    path.write_text(text)
    return path


def per_minute(path: Path, **chosen: str) -> list[float]:
    shape = read_azure(path, **chosen)
    assert shape.each == 60.0
    return [round(rate * 60.0, 9) for rate in shape.rates]


def test_all_functions_are_summed_or_those_that_are_chosen(tmp_path: Path) -> None:
    path = written(tmp_path, TITLES + ROWS)
    assert per_minute(path) == [61.0, 121.0, 7.0]
    assert per_minute(path, app="a1") == [61.0, 1.0, 7.0]
    assert per_minute(path, function="f3") == [0.0, 120.0, 0.0]
    assert per_minute(path, app="a", function="f2") == [1.0, 1.0, 1.0]


def test_the_layout_is_known_by_its_titles(tmp_path: Path) -> None:
    assert is_azure(written(tmp_path, TITLES))
    assert not is_azure(written(tmp_path, "second,rps\n1,2\n"))


@pytest.mark.parametrize(
    ("text", "chosen", "message"),
    [
        ("a,b\n1,2\n", {}, "azure.csv:1: is not the layout of the Azure Functions trace"),
        ("", {}, "azure.csv:1: is not the layout"),
        (TITLES, {}, "azure.csv: is empty: there is no function below the titles"),
        (TITLES + ROWS, {"app": "a1", "function": "f3"}, "no function whose hash begins with app=a1 and function=f3"),
        (TITLES + "o,a,f,http,1,2\n", {}, "azure.csv:2: has 6 columns, but the first line names 7"),
        (TITLES + "o,a,f,http,1,-2,3\n", {}, "azure.csv:2: '-2' stands where the count of a minute is expected"),
        (TITLES + ROWS + "o,a,f,http,1,x,3\n", {}, "azure.csv:5: 'x' stands where the count of a minute"),
        (TITLES + "o,a,f,http,1,,3\n", {}, "azure.csv:2: an empty cell stands where"),
    ],
)
def test_what_is_amiss_is_told(tmp_path: Path, text: str, chosen: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_azure(written(tmp_path, text), **chosen)
