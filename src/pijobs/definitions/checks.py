"""Readiness of the definitions of one kind."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pijobs.base.told import Told
from pijobs.definitions.failover import FALLBACK
from pijobs.definitions.store import DefinitionStore
from pijobs.errors import DefinitionNotFound, PijobsError
from pijobs.plugins.hookspecs import Check, CheckResult
from pijobs.settings import Setting, Settings

#: Says what people should know about a definition; raises if it can't be used.
Look = Callable[[Mapping[str, Any]], Iterable[str]]


def definitions_check(
    name: str,
    thing: str,
    settings: Settings,
    open_store: Callable[[Settings], DefinitionStore],
    *,
    ca_file: Setting[str | None],
    look: Look = lambda definition: (),
) -> Check:
    """Whether all definitions can be read (the key fits) and used. Connects to none.

    :param name: of the check.
    :param thing: one of them: "SMTP server".
    :param ca_file: the setting that names authorities for all of them.
    :param look: gives sentences about a definition that are shown as a warning, in red; raises
        :class:`~pijobs.errors.PijobsError`, ``ValueError`` or ``OSError`` for one that can't be used.
    """
    return Check(name, lambda: _check(Told(thing), settings, open_store, ca_file, look))


def unknown_here(what: str, error: PijobsError, store: DefinitionStore) -> str:
    """Why a job can't use a definition on this worker, for :class:`~pijobs.errors.UnknownHere`.

    :param what: such as ``"SMTP server 'main'"``.
    """
    if isinstance(error, DefinitionNotFound):
        return (
            f"{what} is not in the database of this worker, {store.place}, and its deletion is not on record there; "
            "do server and workers have the same SQLALCHEMY_DATABASE_URI?"
        )
    return f"{what} can't be read by this worker: {error}"


def _check(
    thing: Told,
    settings: Settings,
    open_store: Callable[[Settings], DefinitionStore],
    ca_file: Setting[str | None],
    look: Look,
) -> CheckResult:
    file = settings[ca_file]
    if file and not os.access(file, os.R_OK):
        said = Told("the file of {setting} can't be read", setting=ca_file)
        return CheckResult(False, said, Told("make it readable for this user"))
    try:
        store = open_store(settings)
        found = {identifier: store.get(identifier) for identifier in store.list()}
        bare = store.left_in_clear()
    except PijobsError as error:
        said = Told("one of the {thing}s can't be read: {error}", thing=thing, error=error)
        return CheckResult(False, said, Told("save it again, with its password"))
    alarms = [_lies_in_clear(thing, identifier, names, store) for identifier, names in bare.items()]
    for identifier, definition in found.items():
        try:
            alarms += look(definition)
        except (PijobsError, ValueError, OSError) as error:
            said = Told("{thing} {name!r} can't be used: {error}", thing=thing, name=identifier, error=error)
            return CheckResult(False, said, Told("correct it, and save it again"))
    if alarms:
        advice = Told("correct it in the {thing}", thing=thing)
        return CheckResult(True, Told.joined("; ", alarms), advice, warning=True, alarm=True)
    lost = [name for name, one in found.items() if one[FALLBACK.name] and one[FALLBACK.name] not in found]
    if lost:
        message = Told(
            "the fallback of {thing} {name!r} is not there: {fallback!r}",
            thing=thing, name=lost[0], fallback=found[lost[0]][FALLBACK.name],
        )  # fmt: skip
        return CheckResult(True, message, Told("create it, or name another one"), warning=True)
    return CheckResult(True, Told("{number} {thing}s in {place}", number=len(found), thing=thing, place=store.place))


def _lies_in_clear(thing: Told, identifier: str, names: Sequence[str], store: DefinitionStore) -> str:
    return Told(
        "{thing} {name!r}: {fields} lie in clear in {place}, as an older release left them; "
        "a server or worker of this release encrypts them when it starts, and so does 'pijobs keys retire'",
        thing=thing, name=identifier, fields=", ".join(names), place=store.place,
    )  # fmt: skip
