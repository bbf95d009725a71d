"""``pijobs completion``."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script for SHELL.

    Add to ~/.bashrc or ~/.zshrc: eval "$(pijobs completion bash)", or zsh. For fish, run: pijobs completion fish >
    ~/.config/fish/completions/pijobs.fish
    """
    made = get_completion_class(shell)
    assert made is not None
    click.echo(made(context.find_root().command, {}, "pijobs", "_PIJOBS_COMPLETE").source())
