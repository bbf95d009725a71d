"""How the pages look."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pijobs.settings.setting import PREFIX, Setting


def contrast(one: str, other: str) -> float:
    """Of two colours such as ``#1d57b0``, by WCAG 2.2, from 1 to 21."""
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    parts = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _is_colour(value: Any) -> bool:
    text = isinstance(value, str) and re.fullmatch(r"#[0-9a-fA-F]{6}", value) is not None
    return value == "" or (text and contrast(value, "#f7f7f5") >= 4.5)


def _is_file(value: Any) -> bool:
    return isinstance(value, (str, Path)) and Path(value).is_absolute() and Path(value).suffix in (".svg", ".png")


def _is_folder(value: Any) -> bool:
    return isinstance(value, (str, Path)) and Path(value).is_absolute()


def _setting(name: str, default: Any, expected: str, accepts: Any, help: str, example: Any) -> Setting[Any]:
    name = f"{PREFIX}PAGES_{name}"
    return Setting(name=name, default=default, expected=expected, accepts=accepts, help=help, example=example)


class PageSettings:
    """Settings of the pages."""

    pages_name: Setting[str] = _setting(
        "NAME", "", "a text of at most 60 characters", lambda v: isinstance(v, str) and len(v) <= 60,
        "Pages: the heading. Empty: the name of the queue; under privacyIDEA 'privacyIDEA · Job queue'.",
        "Example Ltd · Job queue",
    )  # fmt: skip
    pages_colour: Setting[str] = _setting(
        "COLOUR", "", "a colour such as '#1d57b0', dark enough to read text in it (contrast 4.5 to 1)", _is_colour,
        "Pages: the colour of links and buttons. The dark theme uses a lighter shade.", "#7a2048",
    )  # fmt: skip
    pages_logo: Setting[str | Path | None] = _setting(
        "LOGO", None, "the absolute path of a file .svg or .png", _is_file,
        "Pages: a picture before the name, and the icon of the browser's tab.", "/etc/pijobs/logo.svg",
    )  # fmt: skip
    pages_translations: Setting[str | Path | None] = _setting(
        "TRANSLATIONS", None, "the absolute path of a folder", _is_folder,
        "Pages: a folder with more languages, or other words, as files such as 'fr.json'. English and German are "
        "built in.", "/etc/pijobs/translations",
    )  # fmt: skip
