"""What `sarvis up` shows: the link, its QR code, and what happens, one line each."""

import time
from collections.abc import Mapping
from io import StringIO
from typing import Any

import segno
from rich.console import Console
from rich.markup import escape

from sarvis.up.house import House

OUTCOMES = {
    "sent": "the app has it",
    "acked": "the app rang",
    "pushed": "the phone is rung by a push",
    "user_not_connected": "no app is connected: open the link",
    "rejected": "another user is logged in on this device",
    "expired": "it came too late",
}


def qr_code(text: str) -> str:
    """A QR code of half blocks, two modules in a character."""
    out = StringIO()
    segno.make(text, error="l", micro=False).terminal(out, compact=True, border=2)
    return out.getvalue()


class Screen:
    """Prints to a console."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()

    def starting(self) -> None:
        """While the processes start."""
        self._console.print("[bold]SARVIS[/] starts: broker, bridge and edge, each a process on this machine ...")

    def ready(self, house: House) -> None:
        """Everything runs."""
        wanted = house.wanted
        show = self._console.print
        if wanted.lan:
            show(
                f"\nOpen this with a phone in the same network; it is [bold]{escape(wanted.uid)}[/]'s:\n",
                highlight=False,
            )
            # With its own colours: a camera reads dark on light only.
            self._console.print(qr_code(house.link), style="#ffffff on #000000", highlight=False, markup=False)
        else:
            show(
                f"\nOpen this in a browser of this machine; it is [bold]{escape(wanted.uid)}[/]'s phone. "
                "For a real phone: sarvis up --lan\n",
                highlight=False,
            )
        self._console.out(f"  {house.link}\n", highlight=False)
        says = "say «싸비스»" if wanted.source else "press w: a recorded voice says «싸비스»"
        show(f"Then {says}. MQTT tools reach the broker at {house.mqtt_url}. Ctrl-C ends everything.", highlight=False)
        show("The operator's console, once within 10 minutes, in a browser of this machine:", highlight=False)
        self._console.out(f"  {house.console}\n", highlight=False)
        self._console.out(f"  sarvis why {wanted.uid} --config {house.config}\n", highlight=False)
        if wanted.lan:
            show(
                "[yellow]Without TLS: others in this network can read the token; docs/operations.md has TLS.[/]\n",
                highlight=False,
            )

    def event(self, line: Mapping[str, Any]) -> None:
        """An event of the edge, as a sentence."""
        if said := sentence(line):
            self._say("edge", said)

    def waits(self, device_id: str) -> None:
        """The key was pressed while no user is logged in: an edge in standby does not listen."""
        self._say("w", f"no user is logged in on {device_id}: open the link")

    def spoken(self, *, begins: bool) -> None:
        """The recorded voice speaks, or has not finished yet."""
        self._say("w", "the recorded voice speaks" if begins else "the recorded voice has not finished yet")

    def _say(self, who: str, text: str) -> None:
        passed = time.monotonic() - self._began
        self._console.print(
            f"[dim]{passed:6.1f} s[/]  [bold]{who:<5}[/] {escape(text)}", highlight=False, soft_wrap=True
        )


def sentence(line: Mapping[str, Any]) -> str | None:
    """What an event of the edge means; None for those that are not shown."""
    said = None
    match line.get("event"):
        case "logged_in":
            said = f"{line['uid']} is logged in: it listens"
        case "logged_out":
            said = f"logged out ({line['reason']}): it does not listen"
        case "wake":
            said = f"heard «싸비스», score {line['score']:.2f}"
        case "outcome":
            said = f"{line['status']}: {OUTCOMES.get(line['status'], 'see docs/contract.md')}"
        case "alarm":
            said = f"alarm {line['name']}{'' if line['raised'] else ' is over'}"
    return said
