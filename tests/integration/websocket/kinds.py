"""What can speak WebSocket to the apps: the values of `bridge.websocket`, each of which must pass all of this."""

from pathlib import Path

from tests.support.world import NO_BROKER, Bridge

KINDS = ("fast", "plain")


def speaking(kind: str, folder: Path, settings: dict[str, str] | None = None, module: str = "sarvis") -> Bridge:
    """A bridge without a broker that speaks by this kind, not yet started."""
    return Bridge(folder, NO_BROKER, {"SARVIS_BRIDGE__WEBSOCKET": kind, **(settings or {})}, module=module)
