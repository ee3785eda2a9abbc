"""The documentation as a site: ``make site``."""

from __future__ import annotations

import re
from typing import Any

from muscope.version import __version__

project, author, release = "muscope", "the muscope developers", __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = "muscope"
myst_heading_anchors = 4
exclude_patterns = ["results/**", "figures/**"]
autodoc_typehints = "description"
autodoc_member_order = "bysource"
napoleon_google_docstring = True
ELSEWHERE = {"../benchmarks/README.md": "benchmarks.md", "../docs/": "", "../README.md": "index.md"}
"""Links that lead out of ``docs/``, and the pages of the site that stand for them."""
FOLDER = re.compile(r"\[([^\]]+)\]\((?:results/[^)]*/|\.\./examples)\)")
"""A link to a folder, which a site does not have."""


def inside(text: str) -> str:
    """A page is written for the repository; on the site its links lead to the site's own pages."""
    for outside, here in ELSEWHERE.items():
        text = text.replace(f"]({outside}", f"]({here}")
    return FOLDER.sub(r"\1", text)


def setup(app: Any) -> None:
    """Called by Sphinx."""

    def read(_: Any, *given: Any) -> None:
        given[-1][0] = inside(given[-1][0])

    app.connect("source-read", read)
    app.connect("include-read", read)
