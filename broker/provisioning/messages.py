"""Reports of commands about a running broker."""

import typer

from broker.provisioning.folder import Reload
from contract.errors import SarvisError

RELOAD = "`sudo systemctl reload mosquitto`, `docker kill --signal HUP CONTAINER`, or `kill -HUP` with its process id"


def say_reload(reload: Reload, what: str) -> None:
    """Print whether the running broker has the change; `what` holds once it does.

    Raises SarvisError if the user must act.
    """
    match reload:
        case "reloaded" | "live":
            typer.echo(f"the broker was informed: {what}")
        case "no_broker":
            typer.echo(f"no broker runs on this folder; when it starts, {what}")
        case "not_permitted":
            raise SarvisError(
                f"the files are written, but the broker belongs to another user and was not informed: make it read "
                f"them "
                f"again ({RELOAD}); only then {what}"
            )
        case "moved":
            raise SarvisError(
                f"the files are written, but the broker's configuration beside them names another folder, so it "
                f"was not informed: if the folder was moved or copied, type `sarvis broker relocate FOLDER` and "
                f"restart "
                f"the "
                f"broker; if the broker sees it under that name, as in a container, have it read them again "
                f"({RELOAD}); only then {what}"
            )
        case "not_told":
            raise SarvisError(
                f"the files are written, but the broker runs, or may run, where this command cannot reach its process "
                f"(in a container, on another machine), and was not informed: see that it has these files and reads "
                f"them "
                f"again ({RELOAD}); only then {what}"
            )
