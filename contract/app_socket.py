"""What both ends of an app's WebSocket agree on: subprotocol, length of a frame, close codes. No I/O."""

from enum import IntEnum
from typing import Literal, get_args

SUBPROTOCOL_V2 = "sarvis.v2"
MAX_FRAME_BYTES = 16 * 1024
"""The longest frame that an app may send."""

Mode = Literal["legacy", "v2"]
"""The documented protocol, or sarvis.v2."""
MODES: tuple[Mode, ...] = get_args(Mode)

LOST = 1006
"""No close frame came."""
FINAL_CODES = range(4500, 5000)
"""An app that reconnected by itself after one of these codes would be refused again."""


class CloseCode(IntEnum):
    """Why the server closes. 4000 to 4499: the app reconnects with jitter; 4500 and above: the user decides."""

    GOING_AWAY = 1001
    DRAIN = 4000
    SLOW_CONSUMER = 4001
    RATE = 4008
    HEARTBEAT_TIMEOUT = 4500
    LOGGED_OUT = 4501
    REPLACED = 4502
    UNAUTHORISED = 4503
    BAD_MESSAGE = 4504
    TOO_MANY = 4505


def comes_back(code: int) -> bool:
    """Whether an app reconnects by itself after this close code."""
    return code not in FINAL_CODES


def javascript() -> str:
    """This table as JavaScript for the page: `app_sim/web/core/codes.js`."""
    codes = "".join(f"  {code.name}: {code.value},\n" for code in CloseCode)
    first, last = FINAL_CODES.start, FINAL_CODES.stop - 1
    return (
        "// Made from contract/app_socket.py by `python -m tests.documents`.\n\n"
        f'export const SUBPROTOCOL = "{SUBPROTOCOL_V2}";\n\n'
        "// Why the bridge closes a socket.\n"
        f"export const CLOSE = Object.freeze({{\n{codes}}});\n\n"
        f"// {first} to {last}: an app that came back by itself would be sent away again.\n"
        "export function comesBack(code) {\n"
        f"  return code < {first} || code > {last};\n"
        "}\n"
    )
