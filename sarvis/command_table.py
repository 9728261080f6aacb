"""The table of commands: where each one is, and its line in `sarvis --help`, so that the list imports none of them."""

from collections.abc import Mapping
from typing import NamedTuple


class Command(NamedTuple):
    """One command.

    Attributes:
        where: `MODULE:NAME` of a typer app, or of a function that is a whole command.
        help: the first sentence of its own help; a test compares them.
    """

    where: str
    help: str


COMMANDS: Mapping[str, Command] = {
    "demo": Command(
        "sarvis.demo.cli:demo",
        "Run broker, bridge, edge and app, play a recording to the edge, and print what happens.",
    ),
    "up": Command(
        "sarvis.up.cli:up",
        "Run broker, bridge and edge to try SARVIS with a phone: prints a link, and what happens; Ctrl-C ends all.",
    ),
    "doctor": Command(
        "sarvis.doctor:doctor",
        "Check this machine: Python, libraries, microphone, model, broker, clock; exit 1 if something cannot work.",
    ),
    "backup": Command(
        "sarvis.backup.cli:backup",
        "Write ledger, broker's store and folder, keys and settings into one file, also while everything runs.",
    ),
    "restore": Command(
        "sarvis.backup.cli:restore",
        "Restore a back-up; bridge and embedded broker must be stopped.",
    ),
    "app": Command("app_sim.cli:app", "The app in a terminal."),
    "audit": Command("bridge.operator.audit_cli:audit", "Who logged whom in and out, from where."),
    "bridge": Command("bridge.cli:app", "Deliver wakes from MQTT to apps, and keep the ledger of sessions."),
    "broker": Command(
        "broker.cli:app",
        "Run the embedded MQTT broker until it is interrupted; retained messages and persistent sessions are kept.",
    ),
    "certs": Command(
        "broker.provisioning.certs_cli:app",
        "Certificates for the broker and its clients, and their authority.",
    ),
    "console": Command(
        "bridge.operator.console_cli:console",
        "Print a link that logs a browser in to the running bridge's console, once, within 10 minutes.",
    ),
    "device": Command("sarvis.device_cli:device", "Add, list, tag and remove devices."),
    "drain": Command(
        "bridge.operator.drain_cli:drain",
        "Ask the running bridge to send its apps away, a few at a time, and to end; as SIGTERM does.",
    ),
    "edge": Command("edge_node.cli:app", "Recognise the wake word, publish wakes, obey log-outs."),
    "forget": Command(
        "bridge.operator.forget_cli:forget",
        "Log a user out, then delete or make anonymous what the bridge keeps; exit 1 if something must stay.",
    ),
    "fleet": Command(
        "sarvis.fleet.cli:app",
        "Run many simulated devices and apps against a broker and a running bridge: for load, and to check that it "
        "works.",
    ),
    "model": Command("sarvis.model_cli:model", "Sign wake-word models for rollouts."),
    "rollout": Command("sarvis.rollout_cli:rollout", "Bring a wake-word model to devices in stages."),
    "sessions": Command("bridge.operator.sessions_cli:sessions", "Show who is logged in where; log a user out."),
    "top": Command(
        "sarvis.top.cli:app",
        "Show the fleet and the running bridge on one live screen; needs the key of an operator or a viewer.",
    ),
    "trace": Command(
        "bridge.operator.why_cli:trace_app",
        "Show wakes step by step, as the bridge saw them; exit 1 if one did not ring.",
    ),
    "token": Command("bridge.operator.token_cli:token", "Tokens for apps, keys for HTTP callers and operators."),
    "watch": Command(
        "sarvis.watch.cli:app",
        "Show messages as they pass the broker, decoded, until it is interrupted.",
    ),
    "why": Command(
        "bridge.operator.why_cli:why_app",
        "Tell why a phone did not ring, and what to do; exit 0 if it rang, else 1.",
    ),
    "wakeword": Command(
        "edge_node.wakeword_cli:app",
        "Teach a node your voice; score recordings; train a model and measure it.",
    ),
}
"""In the order of `sarvis --help`."""
