"""The page is one document that loads nothing, and its policy allows exactly what is in it."""

from __future__ import annotations

import base64
import hashlib
import json
import re

from triscale.core.request import Reason
from triscale.dashboard.page import dashboard


def between(start: str, end: str) -> list[str]:
    html = dashboard().html.decode()
    return re.findall(re.escape(start) + "(.*?)" + re.escape(end), html, re.DOTALL)


def digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def test_the_policy_names_the_one_script_and_the_one_style_by_their_hashes() -> None:
    (script,) = between('<script type="module">', "</script>")
    (style,) = between("<style>", "</style>")
    policy = dashboard().security_policy
    assert "default-src 'none'" in policy
    assert f"script-src '{digest(script)}'" in policy
    assert f"style-src '{digest(style)}'" in policy
    assert "connect-src 'self'" in policy
    assert "unsafe" not in policy


def test_nothing_is_loaded_from_anywhere() -> None:
    html = dashboard().html.decode()
    assert re.findall(r'(?:src|href)="(?!data:)([^"]*)"', html) == []
    assert set(re.findall(r"https?://[\w.]+", html)) <= {"http://www.w3.org"}, "namespaces only"
    assert "@import" not in html
    assert not re.search(r"url\(", html)


def test_no_attribute_carries_style_or_code_that_the_policy_would_block() -> None:
    html = dashboard().html.decode()
    body = html[html.index("<body>") : html.index('<script type="module">')]
    assert not re.search(r'\s(?:style|on\w+)="', body)


def test_what_is_shown_is_never_parsed_as_html() -> None:
    (script,) = between('<script type="module">', "</script>")
    for danger in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert danger not in script


def test_every_reason_has_its_words() -> None:
    (words,) = between('<script type="application/json" id="words">', "</script>")
    assert set(json.loads(words)) == {str(reason) for reason in Reason if reason}


def test_no_mark_is_left_unfilled_and_the_page_is_small() -> None:
    html = dashboard().html
    assert b"{{" not in html
    assert len(html) < 100_000
