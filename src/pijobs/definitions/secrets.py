"""What people see of a secret, what they send back, and where it may be sent. A text is secret as a whole. In names and
texts (``dict``) the texts are secret; in a :class:`Url` its login, the values of its query, and the parts of its path
that look like a token. A placeholder such as ``{phone}`` is not secret.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import SplitResult, unquote, unquote_plus, urlsplit

#: What people see instead of a secret; sent back, it means the stored secret.
CENSORED = "__CENSORED__"

# Placeholders, and signs around them.
_OPEN = re.compile(r"(?:\{[a-z_]{1,40}\}|[^\w{])*")
#: Characters of a part of a path that may be a token: a webhook's, a bot's.
_TOKEN = 16


class Url(str):
    """The kind of a field: an address, which may hold a token."""

    __slots__ = ()


def censored(value: Any) -> Any:
    """The value as people may see it."""
    if isinstance(value, Mapping):
        return {name: text if _is_open(text) else CENSORED for name, text in value.items()}
    if isinstance(value, Url):
        return _written(value, {place: CENSORED for place, _ in _secrets(value)})
    return value if value in (None, "") else CENSORED


def texts(value: Any) -> Iterator[str]:
    """Each secret text in a value; in an address also as its receiver reads it."""
    if isinstance(value, Mapping):
        yield from (str(text) for text in value.values() if not _is_open(text))
    elif isinstance(value, Url):
        for _, text in _secrets(value):
            yield from {text, unquote(text), unquote_plus(text)}
    elif value not in (None, ""):
        yield str(value)


def restored(given: Any, stored: Any) -> tuple[Any, bool]:
    """What was given, with the stored secrets instead of ``__CENSORED__``, and whether there are any.

    :raises ValueError: where none is stored.
    """
    if isinstance(given, Mapping):
        kept = {name for name, text in given.items() if text == CENSORED}
        known = stored if isinstance(stored, Mapping) else {}
        if missing := sorted(kept - known.keys()):
            raise ValueError(f"{missing[0][:60]}: {_NONE_STORED}")
        return {name: known[name] if name in kept else text for name, text in given.items()}, bool(kept)
    if isinstance(given, Url):
        kept_places = [place for place, text in _parts(given) if text == CENSORED]
        known_places = dict(_parts(Url(stored or "")))
        if not known_places.keys() >= set(kept_places):
            raise ValueError(_NONE_STORED)
        return Url(_written(given, {place: known_places[place] for place in kept_places})), bool(kept_places)
    if given == CENSORED:
        if stored in (None, ""):
            raise ValueError(_NONE_STORED)
        return stored, True
    return given, False


_NONE_STORED = f"expected the secret, found {CENSORED}, which keeps a stored one; none is stored"


def bound_to(kind: str, identifier: str, name: str) -> bytes:
    """Associated data: a secret that is copied to another field or row can't be decrypted there."""
    return json.dumps([kind, identifier, name]).encode()


def place_of(value: Any) -> Any:
    """The part of a value that decides who gets a secret: for an address everything but its query."""
    return value.partition("#")[0].partition("?")[0] if isinstance(value, Url) else value


def _is_open(text: object) -> bool:
    return _OPEN.fullmatch(str(text)[:2000]) is not None


#: Which part of an address: of its path by its number, of its query by its name and how often that came before.
_Place = tuple[str, Any]


def _parts(url: str) -> Iterator[tuple[_Place, str]]:
    """The parts that may contain a secret."""
    parts = _split(url)
    if "@" in parts.netloc:
        yield ("login", 0), parts.netloc.rpartition("@")[0]
    for index, segment in enumerate(parts.path.split("/")):
        yield ("path", index), segment
    seen: dict[str, int] = {}
    for pair in parts.query.split("&"):
        name, equals, text = pair.partition("=")
        number = seen[name] = seen.get(name, 0) + 1
        yield ("query", (name if equals else "", number)), text if equals else name
    yield ("fragment", 0), parts.fragment


def _secrets(url: str) -> Iterator[tuple[_Place, str]]:
    for place, text in _parts(url):
        token = len(text) >= _TOKEN and re.search(r"\d", text) and re.search(r"[A-Za-z]", text)
        if not _is_open(text) and (place[0] != "path" or token):
            yield place, text


def _written(url: str, instead: Mapping[_Place, str]) -> str:
    """The address with some parts replaced."""
    parts, found = _split(url), {**dict(_parts(url)), **instead}
    login = found.get(("login", 0))
    netloc = parts.netloc if login is None else f"{login}@{parts.netloc.rpartition('@')[2]}"
    path = "/".join(text for (kind, _), text in found.items() if kind == "path")
    query = "&".join(
        f"{where[0]}={text}" if where[0] else text for (kind, where), text in found.items() if kind == "query"
    )
    scheme, fragment = parts.scheme and f"{parts.scheme}://", found["fragment", 0]
    return f"{scheme}{netloc}{path}{query and '?' + query}{fragment and '#' + fragment}"


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:  # the caller refuses it
        return SplitResult("", "", "", url, "")
