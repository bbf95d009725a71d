"""Presets: fields of common destinations."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import click

    from pijobs.definitions.store import Definitions, DefinitionStore
    from pijobs.settings import Settings


@dataclass(frozen=True)
class Preset:
    """Fields of a definition to start from.

    :ivar title: for people.
    :ivar values: by name of the field. The admin replaces words in capitals.
    :ivar notes: what else to do or know.
    """

    title: str
    values: Mapping[str, Any] = field(default_factory=dict)
    notes: str = ""


def preset_command(
    presets: Mapping[str, Preset],
    open_store: Callable[[Settings], DefinitionStore],
    declaration: Definitions,
    *,
    thing: str,
    known: str,
    advice: str,
) -> click.Command:
    """The command ``preset`` of a plugin, which shows the presets of its definitions or starts from one.

    :param declaration: its fields, also without a ``pi.cfg``.
    :param thing: the name for a definition. :param known: what the presets are for. Both for people.
    :param advice: what to do next, with ``{}`` for the new definition.
    """
    import click

    @click.command(
        help=f"Show what is known of {known}, or start from it.\n\n"
        "Without NAME: the presets that there are. Words in capitals, such as REGION, are for you to replace."
    )
    @click.argument("name", required=False, metavar="[NAME]")
    @click.option("--save", "identifier", metavar="IDENTIFIER", help=f"Save a new {thing} of that name, made of it.")
    @click.option("--set", "changes", multiple=True, metavar="FIELD=VALUE", help="Another value; repeatable.")
    @click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    @click.pass_obj
    def preset(
        invocation: Any, name: str | None, identifier: str | None, changes: tuple[str, ...], as_json: bool
    ) -> None:
        if name is None:
            _list(presets, as_json=as_json)
            return
        if name not in presets:
            raise click.UsageError(f"expected one of {', '.join(presets)}, found {name!r}")
        values = _changed(declaration, presets[name].values, changes)
        if identifier is not None:
            store = open_store(invocation.settings())
            if identifier in store.list():
                raise click.UsageError(f"--save: expected a new name, found {identifier!r}, which is there already")
            store.save(identifier, values)
        _show(name, values, presets[name].notes, as_json=as_json)
        if identifier is not None and not as_json:
            click.echo(f"{thing} {identifier} is saved; {advice.format(identifier)}")

    return preset


def _show(name: str, values: Mapping[str, Any], notes: str, *, as_json: bool) -> None:
    import click

    if as_json:
        click.echo(json.dumps({"preset": name, "values": values, "notes": notes}, indent=2))
        return
    for row, value in values.items():
        click.echo(f"{row:<22}{json.dumps(value) if isinstance(value, dict) else value}")
    click.echo(notes)


def _changed(declaration: Definitions, preset: Mapping[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """The values of a preset with those of ``--set FIELD=VALUE``."""
    import click

    values = dict(preset)
    fields = declaration.fields_of(declaration.complete(values))
    for change in changes:
        named, equals, value = change.partition("=")
        if not equals or named not in fields:
            raise click.UsageError(f"--set: expected FIELD=VALUE, a field being {', '.join(fields)}; found {named!r}")
        values[named] = value
    return values


def _list(presets: Mapping[str, Preset], *, as_json: bool) -> None:
    import click

    titles = {name: known.title for name, known in presets.items()}
    if as_json:
        click.echo(json.dumps(titles, indent=2))
    else:
        for name, title in titles.items():
            click.echo(f"{name:<14}{title}")
