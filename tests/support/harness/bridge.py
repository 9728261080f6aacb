"""A whole bridge in memory, on a clock that the test moves; no broker, no file but that of its signing keys."""

from pathlib import Path
from typing import Any

from bridge.auth.api_keys import Written
from bridge.auth.tokens import issue
from bridge.service import Bridge
from bridge.storage.memory import MemoryStore
from infra.settings.loader import Settings
from tests.support.clock import ManualClock


class BridgeHarness:
    """Before `load` it knows no user, and takes up nothing that is in its store.

    Args:
        keys: where the signing keys are made, if tokens are asked for.
        auth: settings of `auth` other than its default.
        settings: those of other sections, by section.
    """

    def __init__(
        self,
        keys: Path | None = None,
        *,
        store: MemoryStore | None = None,
        auth: dict[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        named = {} if keys is None else {"key_file": keys / "keys"}
        self.settings = Settings.model_validate({**settings, "auth": {**named, **(auth or {})}})
        self.store = store or MemoryStore()
        self.clock = ManualClock()
        self.bridge = self.another()
        if keys is not None:
            self.bridge.authenticator.open()

    def another(self) -> Bridge:
        """A bridge on the same store and clock, as after a restart."""
        return Bridge(self.settings, self.store, self.clock)

    async def load(self) -> None:
        """As a bridge does before it serves."""
        await self.bridge.sessions.load()

    async def lives(self, seconds: int) -> None:
        """Second by second."""
        for _ in range(seconds):
            self.clock.advance(1)
            await self.bridge.sessions.tick()

    def token(self, uid: str, valid_s: float = 60) -> str:
        """An app's token."""
        now = self.clock.utc_now().timestamp()
        return issue(self.bridge.authenticator.signing_keys[0], uid, now=now, valid_s=valid_s)

    def knows(self, *keys: Written) -> None:
        """API keys."""
        self.store.keys |= {key.row.key_id: key.row for key in keys}
