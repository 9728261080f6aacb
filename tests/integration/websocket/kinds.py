"""What can speak WebSocket to the apps: the values of `bridge.websocket`, each of which must pass all of this."""

from pathlib import Path

from tests.support.world import NO_BROKER, Bridge

KINDS = ("fast", "plain")


def speaking(kind: str, folder: Path, settings: dict[str, str] | None = None, altered: str = "") -> Bridge:
    """A bridge without a broker that speaks by this kind, not yet started; `altered` as in tests/support/altered.py."""
    own = {"SARVIS_BRIDGE__WEBSOCKET": kind, **(settings or {}), **({"ALTERED": altered} if altered else {})}
    return Bridge(folder, NO_BROKER, own, module="tests.support.altered" if altered else "sarvis")
