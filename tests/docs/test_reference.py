"""The reference tells all that there is."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from from_code import PAGES, tables, write

import pijobs
import pijobs_mail.errors as mail_errors
import pijobs_sms.errors as sms_errors
import pijobs_sms.hookspecs as sms_hookspecs
from pijobs import State, errors
from pijobs.cli.main import cli
from pijobs.metrics.definitions import FAMILIES
from pijobs.plugins import hookspecs
from pijobs.server import create_app


def is_hook(value: object) -> bool:
    return hasattr(value, "pijobs_spec")


HOOKS = [name for module in (hookspecs, sms_hookspecs) for name, value in vars(module).items() if is_hook(value)]
ERRORS = [
    f"{module.__name__}.{name}"
    for module in (errors, mail_errors, sms_errors)
    for name, value in vars(module).items()
    if inspect.isclass(value) and issubclass(value, Exception) and value.__module__ == module.__name__
]
MEASURED = {
    name
    for path in (Path(__file__).parents[2] / "plugins").glob("*/src/**/*.py")
    for name in re.findall(r"\bctx\.measure\(\s*\"(\w+)\"", path.read_text())
}
#: What the pages "hooks", "errors" and "states" tell; and huey's function.
ELSEWHERE = {
    "Check",
    "CheckResult",
    "InstanceEvent",
    "Page",
    "Scheduled",
    "Told",
    "hookimpl",
    "hookspec",
    "State",
    "HueyQueue",
    "Settings",
}


def commands(command: click.Command = cli, *path: str) -> Iterator[tuple[str, click.Command]]:
    """All commands by their path."""
    yield " ".join(("pijobs", *path)), command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from commands(child, *path, name)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.stem))
def test_a_page_is_up_to_date(page: Path) -> None:
    assert page.read_text() == write(page.read_text()), "run 'make example'"


def test_every_setting(reference: dict[str, str]) -> None:
    names = [setting.name for table in tables().values() for setting in table]
    assert [name for name in names if f'"{name}"' not in reference["settings"]] == []


def test_every_hook(reference: dict[str, str]) -> None:
    assert len(HOOKS) > 5
    assert [name for name in HOOKS if f'"{name}(' not in reference["hooks"]] == []


def test_every_command_and_option(reference: dict[str, str]) -> None:
    text = reference["commands"]
    missing = [path for path, _ in commands() if f'"{path}"\n' not in text]
    for path, command in commands():
        section = text.partition(f'"{path}"\n')[2].partition('\n"pijobs')[0]
        options = [
            name for parameter in command.params if isinstance(parameter, click.Option) for name in parameter.opts
        ]
        missing += [f"{path} {name}" for name in options if name not in section]
    assert missing == []


def test_the_worker_has_hueys_options(reference: dict[str, str]) -> None:
    section = reference["commands"].partition('"pijobs worker"\n')[2].partition('\n"pijobs')[0]
    letters = ["w", "k", "d", "m", "b", "c", "C", "M", "t", "s", "n", "l", "v", "q", "S", "f", "L", "g", "r"]
    assert [letter for letter in letters if f'"-{letter}' not in section] == []


def test_every_route(reference: dict[str, str]) -> None:
    # A long one is cut at the width of its column.
    rows = [[line for line in row.splitlines() if line.startswith("|")] for row in reference["routes"].split("\n+")]
    told = {"".join(line.split("|")[1].strip() for line in row).strip('"') for row in rows}
    rules = create_app(settings={"SECRET_KEY": "only for the list of routes"}).url_map.iter_rules()
    assert [rule.rule for rule in rules if not any(one.endswith(rule.rule) for one in told)] == []


def test_every_metric(reference: dict[str, str]) -> None:
    assert len(FAMILIES) > 10
    assert [family.name for family in FAMILIES if f'"{family.name}"' not in reference["metrics"]] == []


def test_every_metric_of_the_bundled_plugins(reference: dict[str, str]) -> None:
    assert len(MEASURED) > 1
    assert [name for name in MEASURED if f'"pijobs_{name}_total"' not in reference["metrics"]] == []


def test_every_state(reference: dict[str, str]) -> None:
    assert [state for state in State if f'"{state}"' not in reference["states"]] == []


def test_every_error(reference: dict[str, str]) -> None:
    assert len(ERRORS) > 10
    assert [name for name in ERRORS if f"exception {name}" not in reference["errors"]] == []


@pytest.mark.parametrize("name", sorted(set(pijobs.__all__) - ELSEWHERE))
def test_every_public_name(reference: dict[str, str], name: str) -> None:
    assert name in reference["python"]
