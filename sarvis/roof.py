"""The command line of `sarvis`: a group whose commands are imported when they are called."""

import gc
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from contract.errors import StartError
from sarvis.command_table import COMMANDS
from sarvis.version import say_version

WHOLE = 1000
"""Characters; longer than any first sentence."""


class Group(TyperGroup):
    """A group that lists its commands with their whole first sentence; the library cuts it to one line."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.line_of(ctx, name)) for name in self.list_commands(ctx)])

    def line_of(self, ctx: Any, name: str) -> str:
        """What the list says of a command."""
        command = self.get_command(ctx, name)
        return "" if command is None else command.get_short_help_str(WHOLE)


class LazyGroup(Group):
    """The commands of the table; listing and completing their names imports none of them."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = dict.fromkeys(COMMANDS, TyperCommand(None))  # the library suggests these names
        self._lists = False

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command itself; raises StartError if it needs a package that is not installed."""
        if cmd_name not in COMMANDS:
            return None
        if self._lists:
            return TyperCommand(cmd_name, help=COMMANDS[cmd_name].help)
        try:
            return loaded(cmd_name)
        except StartError:
            if ctx.resilient_parsing:
                return TyperCommand(cmd_name)  # a shell completes: it has no use for errors
            raise

    def line_of(self, ctx: Any, name: str) -> str:  # noqa: ARG002 - the table needs no context
        """What the table says."""
        return COMMANDS[name].help

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """See the library; names and help come from the table."""
        self._lists = True
        return super().shell_complete(ctx, incomplete)


def loaded(name: str) -> Any:
    """The command of this name in the table; raises StartError if it needs a package that is not installed."""
    module, _, attribute = COMMANDS[name].where.partition(":")
    try:
        found = getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise StartError(
            f"sarvis {name} needs {error.name}, which is not installed: pip install 'sarvis[edge]'"
        ) from None
    _collect_garbage_again()
    if isinstance(found, typer.Typer):
        return plain(found)
    app = typer.Typer(add_completion=False)
    app.command(name)(found)
    return plain(app)


def _collect_garbage_again() -> None:
    """What the imports have made stays: collections that look at it again and again took a tenth of a start."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def plain(app: typer.Typer) -> Any:
    """The app as a command whose help has no boxes: rich, which draws them, takes longer to load than most commands."""
    app.pretty_exceptions_enable = False
    app.rich_markup_mode = None
    _with_whole_lists(app)
    return typer.main.get_command(app)


def _with_whole_lists(app: typer.Typer) -> None:
    app.info.cls = Group
    for below in app.registered_groups:
        if below.typer_instance is not None:
            _with_whole_lists(below.typer_instance)


def command() -> Any:
    """The command `sarvis`."""
    app = typer.Typer(
        cls=LazyGroup,
        help="A Jetson hears «싸비스», and the right person's app knows it a few milliseconds later.",
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.callback()(_options)
    return typer.main.get_command(app)


def _say_version(shown: bool) -> None:
    if shown:
        say_version()
        raise typer.Exit


def _options(
    *,
    show_version: Annotated[
        bool, typer.Option("--version", help="print the version and exit", callback=_say_version)
    ] = False,
) -> None:
    pass
