"""Finds and reads ``pi.cfg``, a Python file as Flask reads it."""

from __future__ import annotations

import os
import stat
import traceback
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pijobs.errors import ConfigurationError

CONFIG_VARIABLE = "PRIVACYIDEA_CONFIGFILE"
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
        f"name it by --config or the variable {CONFIG_VARIABLE}"
    )


def read_config(path: Path) -> dict[str, Any]:
    """The upper-case names of the file (:meth:`flask.Config.from_pyfile` takes the same ones).

    :raises ConfigurationError: with file and line, when it is missing, unreadable, not Python, or raises.
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
    return {name: value for name, value in vars(module).items() if name.isupper()}


def config_warnings(path: Path) -> list[str]:
    """What is wrong with the file though it can be read."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return []
    if stat.S_ISREG(mode) and mode & stat.S_IROTH:
        return [f"{path}: holds secrets and is readable by all (mode {stat.S_IMODE(mode):04o}); chmod 640 it"]
    return []
