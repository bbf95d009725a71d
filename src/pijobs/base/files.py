"""Files that pijobs creates: only their owner can read them, and they belong to the owner of the folder. A command that
only reads creates none: run once as root, it would lock the service out of its own files.
"""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

#: How the path of each module of this package begins: it tells frames of pijobs from others in a traceback.
OURS = os.path.dirname(os.path.dirname(__file__)) + os.sep

_looking: ContextVar[bool] = ContextVar("pijobs_looking", default=False)


@contextmanager
def looking() -> Iterator[None]:
    """Create no files in this block: a missing file counts as an empty one."""
    token = _looking.set(True)
    try:
        yield
    finally:
        _looking.reset(token)


def looks(function: Callable[P, R]) -> Callable[P, R]:
    """Run a function in :func:`looking`."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with looking():
            return function(*args, **kwargs)

    return run


def is_looking() -> bool:
    """Whether creating files is forbidden."""
    return _looking.get()


def create(path: str | os.PathLike[str]) -> None:
    """Create an empty file with mode 0600. If root creates it, it belongs to the owner of the folder.

    :raises FileExistsError: if it exists; then it was not changed.
    :raises OSError: when it can't be created.
    """
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    try:
        folder = os.stat(os.path.dirname(os.path.abspath(path)))
        # Not in a folder where all may write, such as /tmp.
        if os.geteuid() == 0 and folder.st_uid != 0 and not folder.st_mode & stat.S_IWOTH:
            os.fchown(descriptor, folder.st_uid, folder.st_gid)
    finally:
        os.close(descriptor)


def locked_out(path: str | os.PathLike[str]) -> str | None:
    """Why this user can't write to an existing file, and what to do; None if the user can, or there is no file."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    if os.access(path, os.R_OK | os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        return None
    user = name_of(os.geteuid())
    return (
        f"{os.fspath(path)} belongs to {name_of(found.st_uid)} (mode {stat.S_IMODE(found.st_mode):04o}), and this "
        f"process runs as {user}, who may not write it; chown {user} it, or run this as {name_of(found.st_uid)}"
    )


def name_of(uid: int) -> str:
    """The name of a user, or the number."""
    with suppress(KeyError):
        return pwd.getpwuid(uid).pw_name
    return str(uid)
