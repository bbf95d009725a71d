"""``pijobs new-plugin``: a plugin that works, to be changed into what is wanted. The files are in ``template``."""

from __future__ import annotations

import keyword
import re
from collections.abc import Container
from importlib import metadata, resources
from pathlib import Path
from string import Template

import click

_NAME = re.compile(r"(?=.{1,40}\Z)[a-z][a-z0-9]*(_[a-z0-9]+)*")
_SUFFIX = ".tmpl"


@click.command("new-plugin")
@click.argument("name")
@click.option(
    "--directory",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path(),
    help="Where the plugin's folder is made (default: here).",
)
@click.pass_context
def new_plugin(context: click.Context, name: str, directory: Path) -> None:
    """Write a plugin NAME (package, job, setting, test, README) into a new folder pijobs-NAME. Needs no pi.cfg."""
    root = context.find_root().command
    fault = name_fault(name, root.list_commands(context) if isinstance(root, click.Group) else ())
    if fault:
        raise click.UsageError(fault)
    folder = directory / f"pijobs-{name.replace('_', '-')}"
    try:
        folder.mkdir()
    except FileExistsError:
        raise click.ClickException(f"{folder} exists already; choose another name or move it away") from None
    except OSError as error:
        raise click.ClickException(f"{folder} can't be made: {error.strerror}") from None
    write(folder, name)
    click.echo(f"{folder} is there: a plugin with the job {name}.write. Its README.md tells how to go on.")


def name_fault(name: str, commands: Container[str] = ()) -> str | None:
    """What is wrong with the name of a new plugin; None: nothing.

    :param commands: the names that the plugin's command can't have.
    """
    if not _NAME.fullmatch(name):
        return (
            "NAME: expected lower-case letters and digits in words joined by underscores, beginning with a letter "
            f"(at most 40 characters), found {name!r}"
        )
    if keyword.iskeyword(name):
        return f"NAME: expected a word that Python leaves free, found {name!r}"
    taken = {point.name for point in metadata.entry_points(group="pijobs")}
    if name in taken:
        return f"NAME: a plugin {name!r} is installed already; choose another name"
    if name.replace("_", "-") in commands:
        return f"NAME: expected a word that is no command of pijobs yet, found {name!r}"
    return None


def write(folder: Path, name: str) -> None:
    """Fill the folder from the template."""
    words = {
        "name": name, "NAME": name.upper(), "distribution": f"pijobs-{name.replace('_', '-')}",
        "module": f"pijobs_{name}", "command": name.replace("_", "-"),
    }  # fmt: skip
    with resources.as_file(resources.files(__package__) / "template") as template:
        for source in sorted(template.rglob(f"*{_SUFFIX}")):
            relative = Template(str(source.relative_to(template)).removesuffix(_SUFFIX)).substitute(words)
            target = folder / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(Template(source.read_text(encoding="utf-8")).substitute(words), encoding="utf-8")
            if target.name == "pi.cfg":
                target.chmod(0o600)  # it holds a secret
