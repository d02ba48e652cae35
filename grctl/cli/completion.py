"""``grctl-client completion``: what makes a shell complete the commands, as click writes it."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

__all__ = ["completion"]

_VARIABLE = "_GRCTL_CLIENT_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    r"""Print what makes a shell complete these commands.

    \b
    bash:  eval "$(grctl-client completion bash)"    in ~/.bashrc
    zsh:   eval "$(grctl-client completion zsh)"     in ~/.zshrc, behind compinit
    fish:  grctl-client completion fish > ~/.config/fish/completions/grctl-client.fish
    """
    found = get_completion_class(shell)
    if found is not None:
        click.echo(found(context.find_root().command, {}, "grctl-client", _VARIABLE).source())
