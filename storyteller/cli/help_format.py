"""Help pages in plain text: options and commands under the headings of their Typer panels.

Typer draws panels only through rich, whose import costs more than the rest of `--help` together; plain sections read as
well, can be searched and copied, and look the same in a pipe.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from typer.core import TyperCommand, TyperGroup, TyperOption

_METAVARS = {
    **dict.fromkeys(("int", "int range"), "N"),
    **dict.fromkeys(("float", "float range"), "X"),
    **dict.fromkeys(("str", "list[str]"), "TEXT"),
    **dict.fromkeys(("path", "list[path]"), "PATH"),
}
"""The metavar of an option that names none, by what Typer would show in its place (`<list[str]>`)."""

Row = tuple[str, str]


def write_sections(formatter: Any, rows: Iterable[tuple[str, Row]]) -> None:
    """Writes (heading, row) pairs as one section a heading, in the order in which the headings first appear."""
    sections: dict[str, list[Row]] = {}
    for heading, row in rows:
        sections.setdefault(heading, []).append(row)
    for heading, section in sections.items():
        with formatter.section(heading):
            formatter.write_dl(section)


class SectionedCommand(TyperCommand):
    """A command whose `--help` has a section for each `rich_help_panel` of its options."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes the arguments, the options without a panel, and the options of each panel."""
        arguments, general, panels = [], [], []
        for param in self.get_params(ctx):
            if param.metavar is None and isinstance(param, TyperOption):
                param.metavar = _METAVARS.get(param.display_type(ctx).strip("<>").lower())
            if (row := param.get_help_record(ctx)) is None:  # a hidden one
                continue
            panel = getattr(param, "rich_help_panel", None)
            if param.param_type_name == "argument":
                arguments.append(("Arguments", (row[0].partition(" <")[0], row[1])))
            elif panel:
                panels.append((panel, row))
            else:
                general.append(("Options", row))
        write_sections(formatter, [*arguments, *general, *panels])


class SectionedGroup(TyperGroup):
    """The command line as a whole: `--help` lists the commands by panel."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes the commands, then the options of `storyteller` itself."""
        commands = [self.commands[name] for name in self.list_commands(ctx)]
        room = formatter.width - 6 - max(len(command.name or "") for command in commands)
        rows = [
            (getattr(command, "rich_help_panel", None) or "Commands", (command.name or "", line))
            for command in commands
            if (line := command.get_short_help_str(room))
        ]
        options = [("Options", row) for param in self.get_params(ctx) if (row := param.get_help_record(ctx))]
        write_sections(formatter, [*rows, *options])
