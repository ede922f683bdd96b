"""Render a build as one HTML page that needs no network, no script and no other file."""

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from packager.built import Built
from packager.contract import words
from packager.report import wording
from packager.report.page import page_of

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent
FILTERS = {
    "count": wording.count,
    "percent": wording.percent,
    "rounded": wording.rounded,
    "score": wording.score,
    "sentence": wording.sentence,
    "shade": wording.shade,
    "size": wording.size,
    "steps": words.steps,
    "typeset": wording.typeset,
}


def render(built: Built, folder: Path) -> str:
    """Return the page; the same build gives the same text.

    Args:
        built: What to show; its files lie relative to `folder`.
        folder: Holds the evidence of each target.

    Raises:
        BundleError: A target's evidence is missing, or is not what the build wrote.
    """
    style = (TEMPLATES / "style.css").read_text("utf-8")
    text = (
        _environment()
        .get_template("template.html.j2")
        .render(page=page_of(built, folder), style=style, style_digest=_digest(style))
    )
    return wording.printable(text)


@cache
def _environment() -> "Environment":
    """Return the templates' environment; every value is escaped unless a template says `safe`."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS)
    return environment


def _digest(style: str) -> str:
    """Return the SHA-256 of the style, as a Content-Security-Policy names it."""
    return base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
