"""The languages of the pages.

The code has the English texts, inside ``_()``. Other languages are in ``translations/<language>.json``, beside the
templates and in the packages of plugins: a dictionary from the English text. The browser chooses the language. Checks
make their findings and advice as :class:`~pijobs.base.told.Told`. Reasons of failures and most errors are always
English, as in the log.

Flask-Babel is not used: an app can have only one, and the pages live in apps that have their own.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import flask
from markupsafe import Markup, escape

from pijobs.base.redact import describe
from pijobs.base.told import Told
from pijobs.plugins.loading import Plugins

log = logging.getLogger(__name__)

#: Language of the texts in templates and code.
ENGLISH = "en"
#: Key in ``app.extensions``.
LANGUAGES = "pijobs_languages"
OWN = Path(__file__).resolve().parents[1] / "translations"


class Languages:
    """The texts in all languages that have a file.

    :param folders: folders with ``<language>.json``; a later folder overrides an earlier one.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._texts: dict[str, dict[str, str]] = {ENGLISH: {}}
        for folder in folders:
            for file in sorted(folder.glob("*.json")):
                self._texts.setdefault(file.stem, {}).update(_read(file))

    def best(self) -> str:
        """The language that the browser prefers."""
        return flask.request.accept_languages.best_match([*self._texts], default=ENGLISH)

    def texts(self, language: str) -> Mapping[str, str]:
        return self._texts[language]


def folders(plugins: Plugins, further: Path | None) -> Iterator[Path]:
    """Folders of the pages, of loaded plugins, and a further one (``PI_JOB_QUEUE_PAGES_TRANSLATIONS``)."""
    yield OWN
    for plugin in plugins.loaded:
        file = getattr(sys.modules.get(plugin.module), "__file__", None)
        if file:
            yield Path(file).resolve().parent / "translations"
    if further is not None:
        yield further


def _read(file: Path) -> dict[str, str]:
    try:
        found = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        log.error("%s: expected a JSON object of texts: %s", file, describe(error))
        return {}
    texts = found.items() if isinstance(found, dict) else ()
    return {text: other for text, other in texts if isinstance(other, str) and other}


def language() -> str:
    """The language of this request."""
    if "pijobs_language" not in flask.g:
        flask.g.pijobs_language = flask.current_app.extensions[LANGUAGES].best()
    return str(flask.g.pijobs_language)


def _(text: str, /, **values: Any) -> str:
    """The text in the language of this request, or in English outside a request; ``values`` replace its ``{names}``.

    A :class:`~pijobs.base.told.Told` has its own values; values that are one are translated, too. If a value is
    markup, the result is markup, and all else in it is escaped.
    """
    if isinstance(text, Told):
        values = {**text.values, **values}
        text = text.template
    found = _known().get(text, text)
    if not values:
        return found
    values = {name: _(value) if isinstance(value, Told) else value for name, value in values.items()}
    if any(isinstance(value, Markup) for value in values.values()):
        found = escape(found)
    try:
        return found.format(**values)
    except (AttributeError, LookupError, TypeError, ValueError):  # an invalid translation
        return text.format(**values)


def _known() -> Mapping[str, str]:
    if not flask.has_request_context():
        return {}
    texts: Mapping[str, str] | None = flask.g.get("pijobs_texts")
    if texts is None:
        languages: Languages | None = flask.current_app.extensions.get(LANGUAGES)
        texts = flask.g.pijobs_texts = languages.texts(language()) if languages else {}
    return texts


def plural(number: float, one: str, many: str, **values: Any) -> str:
    """The singular or the plural text, with ``{number}`` filled in."""
    return _(one if number == 1 else many, number=number, **values)
