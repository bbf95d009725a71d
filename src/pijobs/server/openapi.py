"""The OpenAPI document of this server, built from its routes, and the page that shows it.

No library: apispec would return the dictionaries that it is given, and flask-smorest needs views of its own kind.
Tests check the document against the standard (openapi-spec-validator), and the server against it (schemathesis).
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flask
from markupsafe import Markup, escape
from werkzeug.routing import Rule

from pijobs.server.accounts import ROLES
from pijobs.server.described import JSON, TAKES, Parameter, Taken
from pijobs.server.machines import ENQUEUE
from pijobs.server.pages.web_session import PAGES
from pijobs.server.rights import RIGHT, SCOPE

blueprint = flask.Blueprint("pijobs_openapi", __name__, url_prefix="/api", template_folder="templates")

_ROLE = re.compile(r":\w+:`~?(?:[\w.]+\.)?([^`<]+)`")
_ERROR: Mapping[str, Any] = {"$ref": "#/components/responses/Error"}
#: The first clause of a docstring; ignores punctuation in brackets.
_SUMMARY = re.compile(r"((?:[^.;:(]|\([^)]*\)|[.;:](?!\s))*)")
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


@blueprint.get("/openapi.json")
def document() -> flask.Response:
    """The OpenAPI document (3.1) of these routes."""
    return flask.jsonify(openapi(flask.current_app))


@blueprint.get("/docs")
def docs() -> flask.Response:
    """The OpenAPI document as a page, without external scripts or files."""
    found = openapi(flask.current_app)
    response = flask.make_response(
        flask.render_template("pijobs/api.html", document=found, style=_style(), kind=kind, marked=marked)
    )
    response.headers["Content-Security-Policy"] = "default-src 'none'; style-src 'self'; frame-ancestors 'none'"
    return response


def kind(schema: Mapping[str, Any]) -> str:
    """The allowed values of a parameter, in words."""
    if "enum" in schema:
        return " or ".join(map(str, schema["enum"]))
    bounds = [f"{word} {schema[name]}" for name, word in (("minimum", "from"), ("maximum", "to")) if name in schema]
    return " ".join([str(schema.get("type", "")), *bounds])


def marked(text: str) -> Markup:
    """The text as HTML, with words in backticks as code."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704 - it is escaped


def _style() -> str:
    return flask.url_for(f"{PAGES}.file", name="pages.css")


def openapi(app: flask.Flask) -> dict[str, Any]:
    """Build the document, within a request of the app."""
    paths: dict[str, dict[str, Any]] = {}
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule):
        if rule.rule == "/" or rule.endpoint.startswith((f"{PAGES}.", f"{blueprint.name}.")):
            continue
        path = paths.setdefault(re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), {})
        for method in _METHODS:
            if method in (rule.methods or ()):
                path[method.lower()] = _operation(app.view_functions[rule.endpoint], rule, method)
    return {
        "openapi": "3.1.0",
        "info": {"title": "pijobs", "version": "1", "description": _ABOUT},
        "servers": [{"url": flask.request.script_root or "/"}],
        "paths": paths,
        "components": _COMPONENTS,
    }


def _operation(view: Callable[..., Any], rule: Rule, method: str) -> dict[str, Any]:
    taken: Taken = getattr(view, TAKES, Taken())
    parameters = taken.parameters() if callable(taken.parameters) else taken.parameters
    role, scope = getattr(view, RIGHT, None), getattr(view, SCOPE, None)
    words = _words(view)
    operation: dict[str, Any] = {
        "operationId": f"{method.lower()}_{rule.endpoint}".replace(".", "_"),
        "tags": [rule.rule.split("/")[1]],
        "summary": _summary(words),
        "description": words + _needs(role, scope),
        "parameters": [_in_path(name) for name in sorted(rule.arguments)],
        "responses": dict(_responses(taken, role is not None)),
    }
    if role is not None:
        operation["security"] = [{"token": []}]
    if method == "GET":
        operation["parameters"] += [_in_query(one) for one in parameters]
    elif parameters:
        operation["requestBody"] = _body(parameters)
    return operation


def _needs(role: str | None, scope: str | None) -> str:
    machine = f", or a machine's token with the scope `{scope}{'NAME' if scope == ENQUEUE else ''}`" if scope else ""
    return f"\n\nNeeds the role {role} or one that may do more{machine}." if role else ""


def _words(view: Callable[..., Any]) -> str:
    """The docstring as plain text."""
    text = re.split(r"\n\s*:(?:param|raises|returns)", inspect.getdoc(view) or "")[0]
    return _ROLE.sub(r"`\1`", text).replace("``", "`").strip()


def _summary(words: str) -> str:
    match = _SUMMARY.match(words)
    return (match[1] if match else words).rstrip(".;:")


def _in_path(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _in_query(one: Parameter) -> dict[str, Any]:
    found = {"name": one.name, "in": "query", "required": one.required, "schema": _schema(one)}
    return {**found, "description": one.help} if one.help else found


def _body(parameters: Any) -> dict[str, Any]:
    described = {one.name: {"description": one.help} if one.help else {} for one in parameters}
    schema = {
        "type": "object",
        "properties": {one.name: {**_schema(one), **described[one.name]} for one in parameters},
        "required": [one.name for one in parameters if one.required],
    }
    return {"required": bool(schema["required"]), "content": {"application/json": {"schema": schema}}}


def _schema(one: Parameter) -> dict[str, Any]:
    return {"type": one.schema} if isinstance(one.schema, str) else dict(one.schema)


def _responses(taken: Taken, guarded: bool) -> Iterator[tuple[str, Any]]:
    for status, meaning in ((200, "Done."), *taken.statuses):
        content = {media: {"schema": _ANSWER if media in JSON else {"type": "string"}} for media in taken.media}
        yield str(status), {"description": meaning, "content": content}
    if guarded:
        yield "401", _ERROR
        yield "403", _ERROR
    yield "default", _ERROR


_ABOUT = (
    "The job queue over HTTP. POST /auth gives a token for a name and password; 'pijobs admin token add' makes one for"
    f" a machine. Roles, each of which may do what those before it may: {', '.join(ROLES)}. Answers come in"
    " privacyIDEA's envelope. A parameter of a body may come as JSON or as a form; a secret never in the address."
)
_ANSWER: Mapping[str, Any] = {"$ref": "#/components/schemas/Answer"}


def _envelope(status: bool, properties: Mapping[str, Any]) -> dict[str, Any]:
    result = {"status": {"const": status}, **properties}
    return {
        "type": "object",
        "properties": {
            "jsonrpc": {"const": "2.0"},
            "id": {"const": 1},
            "result": {"type": "object", "properties": result, "required": list(result)},
        },
        "required": ["jsonrpc", "id", "result"],
    }


_COMPONENTS: Mapping[str, Any] = {
    "schemas": {
        "Answer": _envelope(True, {"value": {}}),
        "Error": _envelope(
            False,
            {
                "error": {
                    "type": "object",
                    "properties": {"code": {"type": "integer"}, "message": {"type": "string"}},
                    "required": ["code", "message"],
                }
            },
        ),
    },
    "responses": {
        "Error": {
            "description": "It was not done; `result.error` tells why.",
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
        }
    },
    "securitySchemes": {
        "token": {
            "type": "apiKey",
            "in": "header",
            "name": "Authorization",
            "description": "The token, or `Bearer` and it.",
        }
    },
}
