"""English texts that pages can translate, because they remember how they were made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


class Moment(str):
    """A time among the values of a :class:`Told`: ISO 8601, in UTC. Pages show it in the reader's time zone."""


class Told(str):
    """An English text that pages can translate. For everything else (logs, JSON, commands) it is a plain ``str``:
    ``Told("{number} waiting", number=5) == "5 waiting"``.

    What :class:`str` makes of it (``redact``, an f-string) is plain, and stays English.

    :param template: of :meth:`str.format`, a literal; its translation stands in ``translations/<language>.json``.
        Without values it is the text.
    :param values: names, numbers and foreign texts, which stay as they are, or parts to translate, which are of this
        class, too.
    """

    template: str
    values: Mapping[str, str | float]

    def __new__(cls, template: str, /, **values: object) -> Told:
        # An error would keep its frames alive.
        plain = {name: value if isinstance(value, (str, int, float)) else str(value) for name, value in values.items()}
        told = super().__new__(cls, template.format(**plain) if plain else template)
        told.template, told.values = template, plain
        return told

    @classmethod
    def joined(cls, separator: str, parts: Iterable[str]) -> Told:
        """What ``separator.join(parts)`` gives."""
        values = {f"part{number}": part for number, part in enumerate(parts)}
        return cls(separator.join(f"{{{name}}}" for name in values), **values)
