"""Pages for the definitions of a plugin: list, create, edit, test, delete."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

import flask
from werkzeug.wrappers import Response

from pijobs.definitions import DefinitionStore, Preset
from pijobs.errors import DefinitionError, StorageUnavailable
from pijobs.flask import current_queue
from pijobs.observe import facts, instances
from pijobs.request.queue import Handle
from pijobs.server.api import ApiError
from pijobs.server.audited import audit, delete_definition, given_reason, save_definition
from pijobs.server.pages.form_values import not_sent_back, rows_of, sections_of
from pijobs.server.pages.languages import _
from pijobs.server.pages.site import PageBlueprint
from pijobs.server.pages.timeline import life
from pijobs.server.pages.web_session import Problem, requires, say
from pijobs.settings import Settings

Values = dict[str, Any]
Answer = str | tuple[str, int] | Response


class Finding(Protocol):
    """One step of a connection test. Its text comes from the tested server, and contains no secret."""

    @property
    def name(self) -> str: ...
    @property
    def ok(self) -> bool: ...
    @property
    def seconds(self) -> float: ...
    @property
    def found(self) -> str: ...
    @property
    def advice(self) -> str | None:
        """What to do if the step failed."""


#: Takes a saved definition's identifier and a recipient, and sends a test; raises :class:`~pijobs.server.api.ApiError`.
Test = Callable[[str, str], Handle]
#: Tests the connection of a saved definition, step by step, within seconds: somebody waits.
Examine = Callable[[str], Iterable[Finding]]


def _nothing(identifier: str) -> Iterable[Finding]:
    return ()


def definition_pages(
    open_store: Callable[[Settings], DefinitionStore],
    *,
    name: str,
    title: str,
    thing: str,
    columns: Mapping[str, str],
    recipient: str,
    test: Test,
    examine: Examine = _nothing,
    prepare: Callable[[Mapping[str, Any]], Values] = dict,
    alarm: Callable[[Values], str] = lambda row: "",
    group: str = "",
    nothing_known: str = "None of these",
    presets: Mapping[str, Preset] = MappingProxyType({}),
) -> PageBlueprint:
    """A blueprint for all definitions of one kind. Viewers see the list; all else needs an admin.

    :param open_store: opens the definitions of an installation.
    :param name: of the blueprint and in its paths; the navigation's endpoint is ``<name>.index``.
    :param title: title of the list, such as "SMTP servers".
    :param thing: its singular, such as "SMTP server".
    :param columns: the fields that the list shows, with their headings.
    :param recipient: label of the field for a test's recipient, such as "Mail address".
    :param examine: tests the connection; its steps are shown with the test's outcome.
    :param prepare: completes the posted values before they are saved.
    :param alarm: a warning about a definition that is less secure than it should be; empty: none.
    :param group: prefix of the names of the definitions' groups, such as "smtp:".
    :param nothing_known: label of the choice to start a new definition without a preset.
    :param presets: the presets for a new definition, by their names in the URL.
    """
    words = {
        "title": title, "thing": thing, "columns": columns, "recipient": recipient, "alarm": alarm, "presets": presets,
        "nothing_known": nothing_known, "examined": examine is not _nothing,
    }  # fmt: skip
    views = _Views(open_store, words, test, examine, prepare, group)
    blueprint = PageBlueprint(name, __name__, url_prefix=f"/{name}")
    viewer, admin, recent = requires("viewer"), requires("admin"), requires("admin", recent=True)
    for method, rule, endpoint, right, view in (
        ("GET", "/", "index", viewer, views.index),
        ("GET", "/new", "new", recent, views.new),
        ("GET", "/edit/<identifier>", "edit", recent, views.edit),
        ("POST", "/save", "save", recent, views.save),
        ("POST", "/test/<identifier>", "test", admin, views.try_out),
        ("POST", "/probe/<identifier>", "probe", admin, views.probe),
        ("GET", "/delete/<identifier>", "confirm_delete", recent, views.confirm_delete),
        ("POST", "/delete/<identifier>", "delete", recent, views.delete),
    ):
        blueprint.add_url_rule(rule, endpoint, right(_plain(view)), methods=[method])
    return blueprint


def _plain(method: Callable[..., Any]) -> Callable[..., Any]:
    def view(**arguments: str) -> Any:
        return method(**arguments)

    view.__doc__ = method.__doc__
    return view


@dataclass(frozen=True)
class _Views:
    open_store: Callable[[Settings], DefinitionStore]
    words: Mapping[str, Any]
    test: Test
    examine: Examine
    prepare: Callable[[Mapping[str, Any]], Values]
    group: str

    def index(self) -> str:
        """List the definitions, and whether each one uses the queue."""
        store = self._store()
        rows = {key: store.censored(row) for key, row in store.list().items()}
        return flask.render_template("pijobs/definitions.html", rows=rows, **self.words)

    def new(self) -> str:
        """Show the form of a new definition."""
        preset = self.words["presets"].get(flask.request.args.get("preset", ""))
        return self._form(self._with_choice(preset.values if preset else {}), "", new=True)

    def edit(self, identifier: str) -> str:
        """Show the form of a definition."""
        return self._form(self._with_choice(self._stored(identifier)), identifier, new=False)

    def save(self) -> Answer:
        """Create or change a definition."""
        form, store = flask.request.form, self._store()
        identifier, new = form.get("identifier", "").strip(), form.get("new") == "1"
        fields = store.declaration.fields_of(form)
        # A form sends 0 for a box that is not ticked. Fields that are missing from the form stay as they are: a form
        # opened before an upgrade lacks the new fields.
        values: Values = {name: form.getlist(name)[-1] for name in fields if name in form}
        values |= {name: rows for name in fields if (rows := rows_of(name)) is not None}
        if new and identifier in store.list():
            fault = [f"identifier: expected a new one, found {identifier!r}, which is there already"]
            return self._form(values, identifier, new=True, faults=fault), 400
        try:
            save_definition(store, identifier, self.prepare(values))
        except DefinitionError as error:
            return self._form(values, identifier, new=new, faults=list(error.faults)), 400
        say(_("{thing} {name} is saved.", thing=_(self.words["thing"]), name=identifier))
        return flask.redirect(flask.url_for(".edit", identifier=identifier), 303)

    def try_out(self, identifier: str) -> Answer:
        """Send a test, test the connection, and show both. A queued test is shown with its state."""
        stored, recipient = self._stored(identifier), flask.request.form.get("recipient", "").strip()
        row, fault, code = None, "", 200
        audit("definition.test", on=f"{self._store().kind} {identifier}")
        try:
            handle = self.test(identifier, recipient)
        except ApiError as error:
            if error.status < 500:
                faults = [error.message]
                return self._form(stored, identifier, new=False, faults=faults, recipient_was=recipient), error.status
            fault, code = error.message, error.status
        else:
            row = None if handle.via == "direct" else instances.explained(current_queue(), handle.id, advice=False)
        page = flask.render_template(
            "pijobs/tested.html", identifier=identifier, steps=list(self.examine(identifier)), fault=fault, row=row,
            life=[] if row is None else life(row), **self.words,
        )  # fmt: skip
        return page, code

    def probe(self, identifier: str) -> Answer:
        """Test the connection of a definition. A script gets each step as it ends; other clients get one page."""
        self._stored(identifier)
        audit("definition.test", on=f"{self._store().kind} {identifier}")
        steps = self.examine(identifier)
        if not flask.request.headers.get("HX-Request"):
            return flask.render_template(
                "pijobs/tested.html", identifier=identifier, steps=list(steps), fault="", row=None, life=[],
                probed=True, **self.words,
            )  # fmt: skip
        parts = (flask.render_template("pijobs/step.html", step=step) for step in steps)
        return flask.Response(flask.stream_with_context(parts), headers={"X-Accel-Buffering": "no"})

    def confirm_delete(self, identifier: str) -> str:
        """Ask for confirmation before a definition is deleted."""
        self._stored(identifier)
        row = self._destination(identifier)
        waiting = 0 if row is None else row["waiting"]
        return flask.render_template(
            "pijobs/delete_definition.html", identifier=identifier, waiting=waiting, **self.words
        )

    def _destination(self, identifier: str) -> Values | None:
        """The group of this definition; None if there is none, or the storage does not answer."""
        storage = current_queue().storage
        if not self.group or not identifier or storage is None:
            return None
        try:
            found = storage.group(f"{self.group}{identifier}")
            return None if found is None else facts.group(found, storage.now())
        except StorageUnavailable:
            return None

    def delete(self, identifier: str) -> Answer:
        """Delete a definition. Requires a ``reason``."""
        reason = given_reason(flask.request.form)
        if not reason:
            return self.confirm_delete(identifier)
        delete_definition(self._store(), identifier, reason)
        say(_("{thing} {name} is deleted.", thing=_(self.words["thing"]), name=identifier))
        return flask.redirect(flask.url_for(".index"), 303)

    def _store(self) -> DefinitionStore:
        return self.open_store(current_queue().settings)

    def _stored(self, identifier: str) -> Values:
        store = self._store()
        try:
            return store.censored(store.list()[identifier])
        except KeyError:
            raise Problem(404, _("there is no {thing} with this name", thing=_(self.words["thing"]))) from None

    def _with_choice(self, values: Mapping[str, Any]) -> Values:
        """The values with the variant chosen in the URL, which decides the fields of the form."""
        declaration = self._store().declaration
        if declaration.choice is None:
            return dict(values)
        name, default = declaration.choice.name, declaration.choice.default
        return {**values, name: flask.request.args.get(name) or values.get(name) or default}

    def _form(
        self, values: Mapping[str, Any], identifier: str, *, new: bool, faults: list[str] | None = None,
        recipient_was: str = "",
    ) -> str:  # fmt: skip
        declaration = self._store().declaration
        shown = declaration.complete({name: value for name, value in values.items() if value is not None})
        fields = declaration.fields_of(values)
        for name in declaration.secrets_of(values):
            # Never send back a typed secret.
            shown[name] = not_sent_back(fields[name], shown[name], public=new and not faults)
        return flask.render_template(
            "pijobs/definition.html",
            sections=list(sections_of(declaration, values, shown)), values=shown, identifier=identifier, new=new,
            choice=declaration.choice, variants=declaration.variants, faults=faults or [],
            unreadable=values.get("unreadable", {}), recipient_was=recipient_was,
            destination=None if new else self._destination(identifier), **self.words,
        )  # fmt: skip
