"""Pieces of HTML that the reports are made of. Arguments named `html` are HTML already; all others are escaped here."""

from __future__ import annotations

import base64
import difflib
import importlib
import io
import re
from collections.abc import Collection, Iterable, Sequence
from html import escape
from importlib import resources

from triscale.observe.report_svg import Plot

__all__ = ["element", "figure", "key", "marked", "page", "picture", "prose", "table", "tile"]

_THUMBNAIL_PIXELS = 480
_MARKED_PRODUCT = 4_000_000
"""Longest pair of texts that is compared, as the product of their lengths: comparing takes about so many steps."""


def page(title: str, sections: Iterable[str]) -> str:
    """A whole page of HTML sections; empty ones are left out. Self-contained: its style is in it, nothing is loaded."""
    style = resources.files("triscale.observe").joinpath("report.css").read_text()
    body = "\n".join(section for section in sections if section)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def element(tag: str, html: str, kind: str = "") -> str:
    """`<tag class="kind">html</tag>`."""
    return f'<{tag} class="{kind}">{html}</{tag}>' if kind else f"<{tag}>{html}</{tag}>"


def prose(text: str) -> str:
    """Plain text as HTML, no figure parted from its unit at the end of a line."""
    return re.sub(r"(?<=\d) (?=(?:%|ms|s)\b|%)", "&nbsp;", escape(text))


def tile(name: str, value: str, note: str, mood: str = "") -> str:
    """One figure with its name above and a remark below."""
    figure = element("dd", escape(value) + element("small", escape(note)), mood)
    return element("div", element("dt", escape(name)) + figure, "tile")


def key(colour: str, kind: str, label: str) -> str:
    """One entry of a legend; `colour` is a CSS variable, `kind` is `line`, `dash` or `area`."""
    return element("li", f'<i class="{kind}" style="--key: var({colour})"></i>{escape(label)}')


def figure(plot: Plot) -> str:
    """A plot with its title and legend, in both widths."""
    legend = element("ul", "".join(key(*entry) for entry in plot.keys), "legend")
    svgs = "".join(element("div", svg, width) for width, svg in plot.svgs.items())
    label = escape(f"{plot.title}: {', '.join(label for *_, label in plot.keys)}")
    return f'<figure role="img" aria-label="{label}">{element("h3", escape(plot.title))}{legend}{svgs}</figure>'


def table(header: Sequence[str], rows: Iterable[Sequence[str]], text: Collection[int] = (), kind: str = "") -> str:
    """A table whose cells are HTML. The first column and those in `text` are aligned left, figures right."""

    def cells(tag: str, values: Sequence[str]) -> str:
        return "".join(element(tag, value, "text" if index in text else "") for index, value in enumerate(values))

    head = element("thead", element("tr", cells("th", [escape(name) for name in header])))
    body = element("tbody", "".join(element("tr", cells("td", row)) for row in rows))
    return element("div", element("table", head + body, kind), "scroll")


def marked(truth: str, read: str) -> tuple[str, str]:
    """Both texts as HTML, marked where they differ."""
    if len(truth) * len(read) > _MARKED_PRODUCT:
        return escape(truth), escape(read)
    left: list[str] = []
    right: list[str] = []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, truth, read, autojunk=False).get_opcodes():
        for side, part in ((left, escape(truth[a:b])), (right, escape(read[c:d]))):
            side.append(element("mark", part) if kind != "equal" and part else part)
    return "".join(left), "".join(right)


def picture(jpeg: str) -> str:
    """An image from a JPEG in base64, made small where Pillow is installed (it comes with matplotlib)."""
    try:
        pillow = importlib.import_module("PIL.Image")
        opened = pillow.open(io.BytesIO(base64.b64decode(jpeg)))
        opened.thumbnail((_THUMBNAIL_PIXELS, 2 * _THUMBNAIL_PIXELS))
        small = io.BytesIO()
        opened.convert("RGB").save(small, "JPEG", quality=72)
        jpeg = base64.b64encode(small.getvalue()).decode()
    except (ImportError, OSError, ValueError):
        pass  # larger than it need be, or broken: the browser shows what it can
    return f'<img alt="what was sent" src="data:image/jpeg;base64,{escape(jpeg)}">'
