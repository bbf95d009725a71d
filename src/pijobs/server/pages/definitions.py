"""Pages for the definitions of a plugin: list, create, edit, test, delete."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import flask
from werkzeug.wrappers import Response

from pijobs.definitions import CENSORED, Definitions, DefinitionStore
from pijobs.errors import DefinitionError
from pijobs.flask import current_installation
from pijobs.queue import Handle
from pijobs.server.api import ApiError
from pijobs.server.pages.site import PageBlueprint
from pijobs.server.pages.visitor import Problem, requires, say

Values = dict[str, Any]
#: Sends a test by a saved definition to a recipient; refuses by :class:`~pijobs.server.api.ApiError`.
Test = Callable[[str, str], Handle]


def definition_pages(
    declaration: Definitions,
    *,
    name: str,
    title: str,
    thing: str,
    columns: Mapping[str, str],
    recipient: str,
    test: Test,
    prepare: Callable[[Mapping[str, Any]], Values] = dict,
    alarm: Callable[[Values], str] = lambda row: "",
) -> PageBlueprint:
    """A blueprint for all definitions of one kind. Viewers see the list, admins do the rest.

    :param name: of the blueprint and in its paths; the navigation's endpoint is ``<name>.index``.
    :param title: of the list: "SMTP servers".
    :param thing: one of them: "SMTP server".
    :param columns: fields that the list shows, with their headings.
    :param recipient: what a test asks for: "Mail address".
    :param prepare: completes what was posted, before it is saved.
    :param alarm: words in red about a definition that does not protect as it should; empty: none.
    """
    views = _Views(declaration, name, title, thing, columns, recipient, test, prepare, alarm)
    blueprint = PageBlueprint(name, __name__, url_prefix=f"/{name}")
    for method, rule, endpoint, role, view in (
        ("GET", "/", "index", "viewer", views.index),
        ("GET", "/new", "new", "admin", views.new),
        ("GET", "/edit/<identifier>", "edit", "admin", views.edit),
        ("POST", "/save", "save", "admin", views.save),
        ("POST", "/test/<identifier>", "test", "admin", views.try_out),
        ("GET", "/delete/<identifier>", "confirm_delete", "admin", views.confirm_delete),
        ("POST", "/delete/<identifier>", "delete", "admin", views.delete),
    ):
        blueprint.add_url_rule(rule, endpoint, requires(role)(_plain(view)), methods=[method])  # type: ignore[arg-type]
    return blueprint


def _plain(method: Callable[..., Any]) -> Callable[..., Any]:
    def view(**arguments: str) -> Any:
        return method(**arguments)

    view.__doc__ = method.__doc__
    return view


class _Views:
    def __init__(
        self,
        declaration: Definitions,
        name: str,
        title: str,
        thing: str,
        columns: Mapping[str, str],
        recipient: str,
        test: Test,
        prepare: Callable[[Mapping[str, Any]], Values],
        alarm: Callable[[Values], str],
    ) -> None:
        self._declaration, self._test, self._prepare = declaration, test, prepare
        self._words = {"title": title, "thing": thing, "columns": columns, "recipient": recipient, "alarm": alarm}
        self._thing = thing

    def index(self) -> str:
        """The definitions, and whether each one goes through the queue."""
        rows = {key: self._store().censored(row) for key, row in self._store().list().items()}
        return flask.render_template("pijobs/definitions.html", rows=rows, **self._words)

    def new(self) -> str:
        """The form of a new one."""
        return self._form({}, "", new=True)

    def edit(self, identifier: str) -> str:
        """The form of one."""
        return self._form(self._stored(identifier), identifier, new=False)

    def save(self) -> Response | tuple[str, int]:
        """Create or change one."""
        form = flask.request.form
        identifier, new = form.get("identifier", "").strip(), form.get("new") == "1"
        fields = self._declaration.fields_of(form)
        values: Values = {name: form.get(name, "") for name in fields if name in form}
        # A box that is not ticked is not sent.
        values |= {name: name in form for name, field in fields.items() if field.kind is bool}
        store = self._store()
        if new and identifier in store.list():
            fault = [f"identifier: expected a new one, found {identifier!r}, which is there already"]
            return self._form(values, identifier, new=True, faults=fault), 400
        try:
            store.save(identifier, self._prepare(values))
        except DefinitionError as error:
            return self._form(values, identifier, new=new, faults=list(error.faults)), 400
        say(f"{self._thing} {identifier} is saved.")
        return flask.redirect(flask.url_for(".edit", identifier=identifier), 303)

    def try_out(self, identifier: str) -> Response | tuple[str, int]:
        """Send a test by one; what is queued is shown on its way."""
        stored, recipient = self._stored(identifier), flask.request.form.get("recipient", "").strip()
        try:
            handle = self._test(identifier, recipient)
        except ApiError as error:
            return self._form(
                stored, identifier, new=False, faults=[error.message], recipient_was=recipient
            ), error.status
        if handle.via != "direct":
            say(f"The test by {identifier} is queued. Watch it go.")
            return flask.redirect(flask.url_for("pijobs_pages.job", id=handle.id), 303)
        say(f"The test by {identifier} went out.")
        return flask.redirect(flask.url_for(".edit", identifier=identifier), 303)

    def confirm_delete(self, identifier: str) -> str:
        """Ask before one is deleted."""
        self._stored(identifier)
        return flask.render_template("pijobs/delete_definition.html", identifier=identifier, **self._words)

    def delete(self, identifier: str) -> Response:
        """Delete one."""
        self._store().delete(identifier)
        say(f"{self._thing} {identifier} is deleted.")
        return flask.redirect(flask.url_for(".index"), 303)

    def _store(self) -> DefinitionStore:
        return self._declaration.open(current_installation().settings)

    def _stored(self, identifier: str) -> Values:
        try:
            return self._store().censored(self._store().list()[identifier])
        except KeyError:
            raise Problem(404, f"there is no {self._thing} of that name") from None

    def _form(
        self, values: Mapping[str, Any], identifier: str, *, new: bool, faults: list[str] | None = None,
        recipient_was: str = "",
    ) -> str:  # fmt: skip
        shown = self._declaration.complete({name: value for name, value in values.items() if value is not None})
        for name in self._declaration.secrets_of(values):
            # What somebody typed is not sent back.
            shown[name] = CENSORED if shown[name] == CENSORED else ""
        return flask.render_template(
            "pijobs/definition.html",
            fields=self._declaration.fields_of(values), values=shown, identifier=identifier, new=new,
            faults=faults or [], unreadable=values.get("unreadable", {}), recipient_was=recipient_was, **self._words,
        )  # fmt: skip
