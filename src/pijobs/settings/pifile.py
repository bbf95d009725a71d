"""Finds and reads ``pi.cfg``, a Python file as Flask reads it."""

from __future__ import annotations

import json
import os
import stat
import traceback
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pijobs.base.told import Told
from pijobs.errors import ConfigurationError

_ENVIRONMENT = "PRIVACYIDEA_"
CONFIG_VARIABLE = _ENVIRONMENT + "CONFIGFILE"
_DEFAULT_PLACES = (Path("/etc/privacyidea/pi.cfg"), Path("pi.cfg"))


def find_config(option: str | os.PathLike[str] | None = None, environ: Mapping[str, str] = os.environ) -> Path:
    """``--config``, else ``PRIVACYIDEA_CONFIGFILE``, else ``/etc/privacyidea/pi.cfg``, else ``./pi.cfg``.

    :raises ConfigurationError: when there is none; it names the places.
    """
    if option is not None:
        return Path(option).absolute()
    if environ.get(CONFIG_VARIABLE):
        return Path(environ[CONFIG_VARIABLE]).absolute()
    for place in _DEFAULT_PLACES:
        if place.exists():
            return place.absolute()
    raise ConfigurationError(
        f"expected a pi.cfg, found none: not at {_DEFAULT_PLACES[0]} nor {_DEFAULT_PLACES[1].absolute()}; "
        f"name it by --config or the variable {CONFIG_VARIABLE}, or by --app an app that has the settings"
    )


def read_config(path: Path, environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """The upper-case names of the file (as :meth:`flask.Config.from_pyfile` reads it). Names that the file lacks come
    from the environment (:func:`environment_settings`).

    :raises ConfigurationError: with file and line, if the file is missing, unreadable, not Python, or raises.
    """
    try:
        source = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path}: expected a readable file, found: {error.strerror or error}") from error
    module = types.ModuleType("pi_cfg")
    module.__file__ = str(path)
    try:
        code = compile(source, str(path), "exec")
    except SyntaxError as error:
        raise ConfigurationError(f"{path}:{error.lineno or 1}: expected Python, found: {error.msg}") from error
    except ValueError as error:  # a null byte
        raise ConfigurationError(f"{path}:1: expected Python, found: {error}") from error
    try:
        exec(code, module.__dict__)
    except (Exception, SystemExit) as error:
        frames = reversed(traceback.extract_tb(error.__traceback__))
        line = next((frame.lineno for frame in frames if frame.filename == str(path)), 1)
        # Only the type: the message of an error in pi.cfg may quote a secret.
        found = f"code that raises {type(error).__name__}"
        raise ConfigurationError(f"{path}:{line}: expected settings, found {found}") from error
    written = {name: value for name, value in vars(module).items() if name.isupper()}
    return {**environment_settings(environ), **written}


def environment_settings(environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Settings from the environment, as privacyIDEA (3.12 and later) reads them: ``SECRET_KEY``, and ``PRIVACYIDEA_X``
    for ``X``, as JSON or else as text (:meth:`flask.Config.from_prefixed_env`). ``pi.cfg`` overrides them."""
    found: dict[str, Any] = {"SECRET_KEY": environ["SECRET_KEY"]} if environ.get("SECRET_KEY") else {}
    for name, value in environ.items():
        if name.startswith(_ENVIRONMENT) and name != CONFIG_VARIABLE:
            try:
                found[name[len(_ENVIRONMENT) :]] = json.loads(value)
            except ValueError:
                found[name[len(_ENVIRONMENT) :]] = value
    return found


def config_warnings(path: Path) -> list[tuple[str, str]]:
    """Warnings about a file that can be read: what was found, and what to do."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return []
    if stat.S_ISREG(mode) and mode & stat.S_IROTH:
        said = Told(
            "{path}: holds secrets and is readable by all (mode {mode:04o})", path=path, mode=stat.S_IMODE(mode)
        )
        return [(said, Told("chmod 640 it"))]
    return []
