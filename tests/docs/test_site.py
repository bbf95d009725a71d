"""The site that ``make docs`` builds, as somebody reads it in a browser that reaches nothing else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from acceptance.browser import launched
from playwright.sync_api import Page

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow
#: Pages that nothing here looks at; "make docs" builds all, and there a warning is an error.
LEFT_OUT = "_build,_ext,_static,tutorial,reference/[!s]*,reference/settings.md,explanation/[!ad]*"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("furo", reason="the docs are built in an environment with pijobs[docs]")
    built = tmp_path_factory.mktemp("site")
    sphinx = [
        sys.executable,
        "-m",
        "sphinx",
        "-q",
        "-E",
        "-D",
        f"exclude_patterns={LEFT_OUT}",
        "-d",
        f"{built}/trees",
        "-b",
        "html",
    ]
    done = subprocess.run([*sphinx, "docs", str(built)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return built


@pytest.fixture(scope="module")
def asked() -> list[str]:
    """What pages asked for elsewhere."""
    return []


@pytest.fixture(scope="module")
def page(asked: list[str]) -> Iterator[Page]:
    with launched() as browser:
        page = browser.new_page()
        page.on("request", lambda request: None if request.url.startswith("file:") else asked.append(request.url))
        yield page


def test_the_search_finds_what_an_operator_types(site: Path, page: Page) -> None:
    for words, title in (("pause a destination", "Operate the worker"), ("helm", "Deploy on Kubernetes")):
        page.goto(f"file://{site}/search.html?q={words.replace(' ', '+')}")
        page.locator("#search-results li", has_text=title).first.wait_for(timeout=60_000)


def test_a_page_shows_its_diagram_and_loads_nothing_from_elsewhere(site: Path, page: Page, asked: list[str]) -> None:
    for name in ("index", "reference/states", "explanation/architecture", "explanation/delivery-promise"):
        page.goto(f"file://{site}/{name}.html")
        shown = page.evaluate("[...document.querySelectorAll('img')].map(one => [one.alt, one.naturalWidth])")
        assert shown and all(alt and width for alt, width in shown), name
    assert asked == []
