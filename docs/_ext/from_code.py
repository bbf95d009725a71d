"""The parts of the reference that are written from the code, so that they can't differ from it (``make example``).

A page takes one between the lines ``<!-- from code: NAME -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import importlib.util
import inspect
import re
import runpy
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import click

from pijobs import errors
from pijobs.metrics.definitions import FAMILIES
from pijobs.observe.checks import TABLE
from pijobs.plugins import hookspecs
from pijobs.plugins.loading import Plugins
from pijobs.settings import CORE_SETTINGS, Setting

PLUGINS = Path(__file__).parents[2] / "plugins"
PAGES = sorted((Path(__file__).parents[1] / "reference").glob("*.md"))
MARK = re.compile(r"<!-- from code: (\w+) -->\n.*?<!-- end -->", re.DOTALL)


def tables() -> dict[str, Sequence[Setting]]:
    """The tables of settings: the core's, then those of the bundled plugins."""
    loaded = {f"plugin {plugin.name}": plugin.settings for plugin in bundled()}
    return {"core": CORE_SETTINGS, **loaded, "plugin privacyidea": settings_of("privacyidea")}


def settings_of(plugin: str) -> Sequence[Setting]:
    """The table of a plugin that can't be loaded here, since it needs a host that has an environment of its own."""
    table: Sequence[Setting] = runpy.run_path(str(PLUGINS / plugin / "src" / f"pijobs_{plugin}" / "settings.py"))[
        "SETTINGS"
    ]
    return table


def bundled() -> list[Any]:
    """The plugins of this repository, whatever else is installed.

    :raises PluginError: when one fails: a reference without it would be wrong.
    """
    plugins = Plugins()
    plugins.refuse_failed()
    return [plugin for plugin in plugins.loaded if (PLUGINS / plugin.name).is_dir() and plugin.name != "privacyidea"]


def settings() -> Iterator[str]:
    """Each setting with its help, what is expected and its default."""
    for owner, table in tables().items():
        yield f"## Settings of the {owner}\n"
        for setting in table:
            yield f"### `{setting.name}`\n"
            yield f"{_text(setting.help)}\n"
            yield f"Expected: {_text(setting.expected)}. Default: `{setting.default!r}`."
            if setting.example is not None:
                yield f"Example: `{setting.example!r}`."
            if setting.secret:
                yield "A secret: never printed."
            yield ""


def hooks() -> Iterator[str]:
    """Each hook with its signature and its docstring, the core's first."""
    for owner, module in [("", hookspecs), *modules("hookspecs")]:
        for name, function in vars(module).items():
            if callable(function) and hasattr(function, f"{hookspecs.PROJECT}_spec"):
                parameters = ", ".join(inspect.signature(function).parameters)
                yield f"## `{name}({parameters})`\n\n{_doc(function)}\n"
                if owner:
                    yield f"A hook of `{owner}`.\n"


def modules(name: str) -> Iterator[tuple[str, ModuleType]]:
    """The distributions of the bundled plugins that have a module of this name, and the modules."""
    for plugin in bundled():
        if importlib.util.find_spec(f"pijobs_{plugin.name}.{name}"):
            yield f"pijobs-{plugin.name}", importlib.import_module(f"pijobs_{plugin.name}.{name}")


def commands() -> Iterator[str]:
    """Each command with its arguments and options, depth first."""
    from pijobs.cli.main import cli  # the example file needs no commands and no server

    with click.Context(cli, info_name="pijobs", terminal_width=80) as context:
        cli.list_commands(context)  # has the plugins add theirs
        yield from _command(cli, context)


def _command(command: click.Command, context: click.Context) -> Iterator[str]:
    yield f"## `{context.command_path}`\n"
    yield f"```text\n{command.get_usage(context)}\n```\n"
    yield f"{_paragraphs(command.help or '')}\n"
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if record is not None and record[1]:
            yield f"- `{record[0]}`: {_text(record[1])}"
    yield ""
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None and not child.hidden:
                with click.Context(child, info_name=name, parent=context) as below:
                    yield from _command(child, below)


def routes() -> Iterator[str]:
    """Each route with the role that it requires, and the first paragraph of its view's docstring."""
    from pijobs.server import create_app
    from pijobs.server.rights import RIGHT

    app = create_app(settings={"SECRET_KEY": "only for the list of routes"})
    yield "| route | role | does |\n| --- | --- | --- |"
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule):
        methods = (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.endpoint.rpartition(".")[2] != "static":
            view = app.view_functions[rule.endpoint]
            does = _doc(view).partition("\n\n")[0].replace("\n", " ")
            yield f"| `{', '.join(sorted(methods))} {rule.rule}` | {getattr(view, RIGHT, '')} | {does} |"


def metrics() -> Iterator[str]:
    """Each metric with its kind, its labels and what it tells."""
    for family in FAMILIES:
        labels = ", ".join(f"`{label}`" for label in family.labels)
        yield f"- `{family.name}`: {family.kind}{' by ' if labels else ''}{labels}. {_text(family.help)}"


def checks() -> Iterator[str]:
    """Each check with its severity, when it fails, and its alert."""
    yield "| check | severity | fails when | alert |\n| --- | --- | --- | --- |"
    for name, row in TABLE.items():
        alert = row.alert or ("PijobsCheckFails" if row.severity == "critical" else "")
        yield f"| `{name}` | {row.severity} | {_text(row.fails)} | {alert} |"


def codes() -> Iterator[str]:
    """The codes of errors, as the module of the answers has them."""
    from pijobs.server import api

    yield "| code | status | means |\n| --- | --- | --- |"
    for line in (api.__doc__ or "").splitlines():
        if re.match(r"-?\d", line):
            code, status, meaning = line.split(maxsplit=2)
            yield f"| `{code}` | {status} | {meaning} |"


def exceptions() -> Iterator[str]:
    """The tree of errors as the module draws it."""
    yield from _tree(errors)


def plugin_exceptions() -> Iterator[str]:
    """The trees of those plugins that have one, with what each error tells."""
    for owner, module in modules("errors"):
        yield f"## Of {owner}\n"
        yield from _tree(module)
        yield f"\n```{{eval-rst}}\n.. automodule:: {module.__name__}\n   :members:\n"
        yield "   :exclude-members: with_traceback, add_note\n   :no-index:\n```\n"


def _tree(module: ModuleType) -> Iterator[str]:
    tree = inspect.cleandoc(module.__doc__ or "").split("::\n\n", 1)[1]
    lines = tree.splitlines()
    end = next(number for number, line in enumerate(lines) if line and not line.startswith(" "))
    yield "```text"
    yield from (line[4:] for line in lines[:end])
    yield "```"


PARTS: dict[str, Callable[[], Iterator[str]]] = {
    part.__name__: part
    for part in (settings, hooks, commands, routes, metrics, checks, codes, exceptions, plugin_exceptions)
}


def write(page: str) -> str:
    """The page with its parts as the code has them now."""

    def part(match: re.Match[str]) -> str:
        lines = "\n".join(PARTS[match[1]]()).strip()
        return f"<!-- from code: {match[1]} -->\n\n{lines}\n\n<!-- end -->"

    return MARK.sub(part, page)


def _text(text: str | None) -> str:
    return re.sub(r"([*_<|`])", r"\\\1", " ".join((text or "").split()))


def _paragraphs(text: str) -> str:
    return "\n\n".join(_text(paragraph) for paragraph in inspect.cleandoc(text).replace("\b", "").split("\n\n"))


def _doc(function: Any) -> str:
    """The docstring, its reST roles and literals as Markdown."""
    text = re.sub(r":\w+:`~?([^`<]+)`", r"`\1`", inspect.getdoc(function) or "")
    return text.replace("``", "`")


if __name__ == "__main__":
    for path in PAGES:
        path.write_text(write(path.read_text()))
