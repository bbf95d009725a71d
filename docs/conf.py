"""Sphinx; warnings are errors (``make docs``)."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "pijobs"
copyright = "the pijobs authors, Apache-2.0"
version = release = metadata.version("pijobs")

extensions = ["myst_parser", "sphinx.ext.autodoc", "diagrams"]
exclude_patterns = ["_build", "_ext", "_static"]
source_suffix = {".md": "markdown"}
nitpicky = False

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
myst_fence_as_directive = ["mermaid"]

autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["docs.css"]
html_title = "pijobs"
