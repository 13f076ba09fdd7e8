"""The commands of a group, also of one that imports them when they are used."""

import click


def commands_of(group: click.Group) -> dict[str, click.Command]:
    context = click.Context(group, **group.context_settings)
    found = {name: group.get_command(context, name) for name in group.list_commands(context)}
    return {name: command for name, command in found.items() if command is not None}
