"""A setting, the validated settings of one installation, and the validation between them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pijobs.base import threads
from pijobs.base.foreign import cut
from pijobs.errors import SettingsError

T = TypeVar("T")

PREFIX = "PI_JOB_QUEUE_"
MASK = "********"
# Up to the last "@": who forgot to quote a slash or an "@" in his password must not see it in an error either.
_URL_PASSWORD = re.compile(r"(?<=://)([^/@:\s]*):[^\s'\"]*@")
_MISTYPED = re.compile(r":[^\s'\"]*@")
_WORDS = re.compile("[A-Za-z_. ]{0,20}|[0-9.]{1,6}")
_QUERY_PASSWORD = re.compile(r"([?&][\w-]*password=)[^&\s'\"]*", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One row of the table of settings.

    :param name: as written in ``pi.cfg``.
    :param default: the value when it is not written there; not checked.
    :param expected: ends the sentence "expected …".
    :param accepts: tells whether a value can be used.
    :param help: for the reference and ``pi.cfg.example``.
    :param secret: never shown; of a URL only the password is hidden.
    :param example: the value shown in ``pi.cfg.example``, if it is not the default.
    """

    name: str
    default: Any
    expected: str
    accepts: Callable[[Any], bool]
    help: str
    secret: bool = False
    example: Any = None

    def fault(self, value: object) -> str | None:
        """None if the value can be used, else one line that says what was expected and found."""
        if value is None and self.default is None:
            return None  # as good as not written; Flask's own defaults are written so
        try:
            if self.accepts(value):
                return None
        except Exception:  # a check that trips over the value has refused it
            pass
        return f"{self.name}: expected {self.expected}, found {self._found(value)}"

    def _found(self, value: object) -> str:
        """What may be told of a value that can't be: a secret may stand in the wrong place."""
        if self.secret:
            return f"a value of type {type(value).__name__}"
        if self.name.endswith(("URL", "URI")):
            return told_url(value)
        plain = isinstance(value, str) and isinstance(self.default, (str, int, float)) and _WORDS.fullmatch(value)
        return repr(value) if plain else cut(_shape(value), 200)

    def shown(self, value: object) -> str:
        """The value as people may see it."""
        return MASK if self.secret and value else masked_repr(value)


@dataclass(frozen=True)
class AppPlaces:
    """Where a Flask app has its files and its database, for settings that come from its configuration.

    :param root: its root path.
    :param instance: its instance folder.
    :param engine: gives the engine of its Flask-SQLAlchemy, or None where it has none.
    """

    root: Path
    instance: Path
    engine: Callable[[], Any]

    @property
    def directory(self) -> Path:
        """The folder of its project, where its ``pi.cfg`` usually lies; of an installed app, its root path."""
        beside = self.instance.name == "instance" and self.instance.parent in (self.root, self.root.parent)
        return self.instance.parent if beside else self.root


class Settings(Mapping[str, Any]):
    """Validated settings by their full names, defaults filled in; read-only.

    One object stands for one installation: what is derived from its settings on first use (keys, the database) is
    kept here, see :meth:`resource`.
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        table: Iterable[Setting],
        *,
        directory: Path | None = None,
        file: Path | None = None,
        warnings: Iterable[str] = (),
        app: AppPlaces | None = None,
    ) -> None:
        self.table = {setting.name: setting for setting in table}
        self._values = {name: values.get(name, setting.default) for name, setting in self.table.items()}
        #: Folder of the ``pi.cfg``; relative files that belong to the installation lie here.
        self.directory = directory or (app.directory if app else Path.cwd())
        own = None if directory else app
        #: Where Flask-SQLAlchemy looks for a relative SQLite file.
        self.instance = own.instance if own else self.directory / "instance"
        #: Where releases before 0.2.0 looked for it.
        self.older_directory = own.root if own else self.directory
        #: Gives the engine of the app's Flask-SQLAlchemy, or None.
        self.engine: Callable[[], Any] = app.engine if app else lambda: None
        #: The ``pi.cfg`` itself, where that is known.
        self.file = file
        self.warnings = tuple(warnings)
        self._resources: dict[object, Any] = {}
        self._lock = threads.RLock()

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"<Settings of {len(self)} values>"

    def resource(self, key: object, make: Callable[[], T]) -> T:
        """The object of this installation under ``key``, made on first use."""
        with self._lock:
            if key not in self._resources:
                self._resources[key] = make()
            resource: T = self._resources[key]
            return resource

    def shown(self) -> dict[str, str]:
        """All values as people may see them."""
        return {name: setting.shown(self._values[name]) for name, setting in self.table.items()}


def validate(
    values: Mapping[str, Any],
    table: Iterable[Setting],
    *,
    absent_prefixes: Iterable[str] = (),
    directory: Path | None = None,
    file: Path | None = None,
    extra_faults: Iterable[str] = (),
    app: AppPlaces | None = None,
) -> Settings:
    """Check everything at once.

    Names outside the prefix that no table knows belong to somebody else and are left alone.

    :param absent_prefixes: of plugins that are installed but not loaded; names that begin so are a warning.
    :param app: of the Flask app that they configure.
    :param extra_faults: faults found elsewhere, to be told together with these.
    :raises SettingsError: with one line per fault.
    """
    rows = {setting.name: setting for setting in table}
    faults, warnings = list(extra_faults), []
    absent = tuple(absent_prefixes)
    for name, value in values.items():
        if name in rows:
            fault = rows[name].fault(value)
            if fault:
                faults.append(fault)
        elif name.startswith(absent):
            warnings.append(f"{name}: belongs to a plugin that is not loaded, ignored")
        elif name.startswith(PREFIX):
            faults.append(_unknown(name, rows))
    if faults:
        raise SettingsError(faults)
    return Settings(values, rows.values(), directory=directory, file=file, warnings=warnings, app=app)


def _unknown(name: str, rows: Mapping[str, Setting]) -> str:
    # Without the prefix, which would make all names alike.
    known = [row[len(PREFIX) :] for row in rows if row.startswith(PREFIX)]
    close = difflib.get_close_matches(name[len(PREFIX) :], known, n=1)
    advice = f"did you mean {PREFIX}{close[0]}?" if close else "see 'pijobs config show' for the names that exist"
    return f"{name}: expected the name of a setting, found one that no loaded plugin declares; {advice}"


def masked_repr(value: object) -> str:
    """``repr`` without the passwords of URLs, also of mistyped ones."""
    text = repr(value)
    if "://" not in text and "@" in text:  # "redis//:password@host"
        text = _MISTYPED.sub(f":{MASK}@", cut(text))
    return _QUERY_PASSWORD.sub(rf"\1{MASK}", _URL_PASSWORD.sub(rf"\1:{MASK}@", text))


def told_url(value: object) -> str:
    """What is known of a value that should be a URL, and is none: no more of it than how it begins."""
    if not isinstance(value, str):
        return "None" if value is None else f"a value of type {type(value).__name__}"
    scheme, separator, _ = value.partition("://")
    return (
        f"one that begins with {scheme}://"
        if separator and re.fullmatch(r"[a-z0-9+.-]{1,40}", scheme)
        else "another text"
    )


def _shape(value: object, depth: int = 0) -> str:
    """A value without its texts, which may be secret; names in a dictionary are told."""
    if value is None or isinstance(value, (bool, int, float)):
        return repr(value)
    if depth == 4:
        return "…"
    if isinstance(value, Mapping):
        pairs = (f"{_name(name)}: {_shape(one, depth + 1)}" for name, one in value.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, (list, tuple)):
        left, right = "[]" if isinstance(value, list) else "()"
        return left + ", ".join(_shape(one, depth + 1) for one in value) + right
    return "a text" if isinstance(value, str) else f"a value of type {type(value).__name__}"


def _name(name: object) -> str:
    return repr(name) if isinstance(name, str) and re.fullmatch(r"[\w.*-]{1,60}", name) else _shape(name)
