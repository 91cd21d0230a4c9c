"""Makes the page from its parts: one self-contained document that loads nothing but the server's own documents.

Its policy names the hashes of the one style and the one script that are in it, so nothing else can run, whatever
finds its way into a name or a reason that is shown.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from importlib import resources

from triscale.core.request import Reason
from triscale.observe.wording import reason_text
from triscale.serve.status_routes import Page

__all__ = ["dashboard"]

_SCRIPTS = ("format.js", "plot.js", "plots.js", "graph.js", "decisions.js", "feed.js", "app.js")
"""In the order in which they build on each other."""


@functools.cache
def dashboard() -> Page:
    """The page. The look is that of the reports: `observe/report.css` comes first, the dashboard's own rules follow."""
    style = _text("triscale.observe", "report.css") + _part("style.css")
    script = "\n".join(_part(name) for name in _SCRIPTS)
    words = {str(reason): reason_text(reason) for reason in Reason if reason}
    html = _part("index.html")
    for mark, text in (("{{style}}", style), ("{{script}}", script), ("{{words}}", json.dumps(words))):
        html = html.replace(mark, text)
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return Page(html.encode(), policy)


def _part(name: str) -> str:
    return _text("triscale.dashboard", name)


def _text(package: str, name: str) -> str:
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """As a Content-Security-Policy names what stands between a pair of tags."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
