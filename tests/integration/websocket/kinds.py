"""What can speak WebSocket to the apps: the values of `bridge.websocket`, each of which must pass all of this."""

from pathlib import Path

from tests.support.world import Bridge

KINDS = ("fast", "plain")
NO_BROKER = "mqtt://127.0.0.1:9"


def start(kind: str, folder: Path, settings: dict[str, str] | None = None, module: str = "sarvis") -> Bridge:
    """A bridge without a broker that speaks by this kind; the caller stops it."""
    bridge = Bridge(folder, NO_BROKER, {"SARVIS_BRIDGE__WEBSOCKET": kind, **(settings or {})}, module=module)
    bridge.start(ready=False)
    return bridge
