import pytest

from bridge.service import Bridge
from contract.settings import MqttSettings, Settings
from tests.support.memory_store import MemoryStore
from tests.support.processes import free_port
from tests.support.waiting import wait_until


async def test_a_bridge_that_runs_for_long_forgets_what_is_long_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.service.PRUNE_EVERY_S", 0.01)
    store = MemoryStore()
    settings = Settings(mqtt=MqttSettings(url=f"mqtt://127.0.0.1:{free_port()}"))
    async with Bridge(settings, store).running():
        await wait_until("it was pruned again and again", lambda: store.prunes >= 3)
