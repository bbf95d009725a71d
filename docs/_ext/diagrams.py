"""The diagrams of the docs: a forge draws a block of mermaid by itself, Sphinx shows the picture that was made of it.

``make diagrams`` makes the pictures, in chromium, with mermaid from npm. Each has the digest of its block as name, so
that a block that was changed has none, and Sphinx says so.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from docutils import nodes  # type: ignore[import-untyped, unused-ignore]
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

DOCS = Path(__file__).resolve().parents[1]
PICTURES = DOCS / "_static/diagrams"
MERMAID = "mermaid@11.17.2"
_BLOCK = re.compile(r"^```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TITLE = re.compile(r"^\s*accTitle: (.+)$", re.MULTILINE)
#: No HTML within the picture, which viewers of SVG do not show.
_OPTIONS = {"startOnLoad": False, "htmlLabels": False, "fontFamily": "sans-serif", "theme": "neutral",
            "flowchart": {"htmlLabels": False, "wrappingWidth": 320}, "deterministicIds": True}  # fmt: skip


def picture(block: str) -> Path:
    """Where the picture of a block is."""
    return PICTURES / f"{hashlib.sha256(block.strip().encode()).hexdigest()[:12]}.svg"


class Diagram(SphinxDirective):
    """A block of mermaid."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        block = "\n".join(self.content)
        file, title = picture(block), _TITLE.search(block)
        if not file.exists() or title is None:
            log = logging.getLogger(__name__)
            log.warning(
                "a diagram needs a line 'accTitle: …', and 'make diagrams' after a change", location=self.get_location()
            )
            return []
        return [nodes.image(uri=f"/{file.relative_to(DOCS)}", alt=title[1], classes=["diagram"])]


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("mermaid", Diagram)
    return {"parallel_read_safe": True}


def main() -> None:
    """Make those that are missing, and remove those that nothing shows any more."""
    sys.path.append(str(DOCS.parent / "tests"))
    from acceptance.browser import launched
    from services import program

    wanted = {picture(block): block for page in DOCS.rglob("*.md") for block in _BLOCK.findall(page.read_text())}
    PICTURES.mkdir(exist_ok=True)
    for old in set(PICTURES.glob("*.svg")) - set(wanted):
        old.unlink()
    with tempfile.TemporaryDirectory() as folder, launched() as browser:
        subprocess.run([program("npm"), "pack", "--silent", MERMAID], cwd=folder, check=True)
        [archive] = Path(folder).glob("*.tgz")
        with tarfile.open(archive) as package:
            package.extract("package/dist/mermaid.min.js", folder, filter="data")
        page = browser.new_page()
        page.add_script_tag(path=f"{folder}/package/dist/mermaid.min.js")
        page.evaluate("options => mermaid.initialize(options)", _OPTIONS)
        for file, block in wanted.items():
            if not file.exists():
                drawn = page.evaluate("block => mermaid.render('diagram', block)", block)
                file.write_text(drawn["svg"] + "\n")
                print(file.relative_to(DOCS))


if __name__ == "__main__":
    main()
