"""The command itself: what holds for every subcommand."""

from __future__ import annotations

import io
import sys

import pytest

from triscale.cli import main as command
from triscale.cli.main import main


def test_a_terminal_without_unicode_gets_question_marks_and_not_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    monkeypatch.setattr(command, "cli", lambda *, standalone_mode: print("p99 \u2013", standalone_mode))
    main()
    sys.stdout.flush()
    assert raw.getvalue() == b"p99 ? False\n"
