from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from triscale.cli.report import check_writable, report
from triscale.errors import ConfigError

RUN = {"pipeline": "ocr", "slo_ms": 100, "phases": [{"name": "a", "seconds": 1, "sent": 2, "answered": 2}]}


def test_a_run_becomes_a_page(tmp_path: Path) -> None:
    out = tmp_path / "new folder" / "page.html"
    result = CliRunner().invoke(report, ["-", "-o", str(out)], input=json.dumps(RUN), catch_exceptions=False)
    assert result.output == f"written to {out}\n"
    assert "All 2 requests answered within" in out.read_text()


def test_what_is_no_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(ConfigError, match=r"run\.json: is not a JSON document"):
        CliRunner().invoke(report, [str(tmp_path / "run.json")], catch_exceptions=False)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"--out .*file/page\.html: cannot be written: (File exists|Not a directory)"):
        CliRunner().invoke(
            report, ["-", "-o", str(tmp_path / "file" / "page.html")], input=json.dumps(RUN), catch_exceptions=False
        )


def test_a_place_is_tried_before_it_is_needed_and_left_as_it_was(tmp_path: Path) -> None:
    check_writable(tmp_path / "new folder" / "page.html", "--report")
    assert not (tmp_path / "new folder" / "page.html").exists()
    (tmp_path / "old.html").write_text("kept")
    check_writable(tmp_path / "old.html", "--report")
    assert (tmp_path / "old.html").read_text() == "kept"
    with pytest.raises(ConfigError, match=r"--report .*: cannot be written: .*; name a file that you may write to"):
        check_writable(tmp_path, "--report")
