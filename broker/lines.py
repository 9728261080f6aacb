"""What commands say of a running broker."""

import typer

from broker.folder import Reload
from contract.errors import SarvisError

RELOAD = "`sudo systemctl reload mosquitto`, `docker kill --signal HUP CONTAINER`, or `kill -HUP` with its process id"


def say_reload(reload: Reload, what: str) -> None:
    """Tell whether the running broker knows; `what` is true when it does. Raises SarvisError when it must be told."""
    match reload:
        case "reloaded" | "live":
            typer.echo(f"the broker was told: {what}")
        case "no_broker":
            typer.echo(f"no broker runs on this folder; when it starts, {what}")
        case "not_permitted":
            raise SarvisError(
                f"the files are written, but the broker belongs to another user and was not told: have it read them "
                f"again ({RELOAD}); only then {what}"
            )
        case "not_told":
            raise SarvisError(
                f"the files are written, but the broker runs, or may run, where this command cannot reach its process "
                f"(in a container, on another machine), and was not told: see that it has these files and reads them "
                f"again ({RELOAD}); only then {what}"
            )
