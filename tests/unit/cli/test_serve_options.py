"""What `triscale serve` and `triscale demo` refuse before anything is started."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from triscale.cli.demo import demo
from triscale.cli.serve import serve
from triscale.errors import ConfigError


@pytest.mark.parametrize("option", ["--port", "--metrics-port"])
@pytest.mark.parametrize("port", ["65536", "-1"])
def test_a_port_that_there_is_not_is_refused(option: str, port: str) -> None:
    result = CliRunner().invoke(serve, ["examples/digits", option, port])
    assert result.exit_code == 2
    assert f"Invalid value for '{option}': {port} is not in the range 0<=x<=65535" in result.output


def test_one_port_for_both_is_told_before_it_is_called_taken() -> None:
    with pytest.raises(ConfigError, match="--port and --metrics-port are both 8100: each needs a port of its own"):
        CliRunner().invoke(
            serve, ["examples/digits", "--port", "8100", "--metrics-port", "8100"], catch_exceptions=False
        )


def test_a_demo_whose_report_cannot_be_written_says_so_before_it_runs(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"--report .*page\.html: cannot be written: "):
        CliRunner().invoke(
            demo, ["examples/digits", "--report", str(tmp_path / "file" / "page.html")], catch_exceptions=False
        )
