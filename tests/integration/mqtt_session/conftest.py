"""Every test runs on both ways of MQTT."""

import pytest

from tests.integration.mqtt_session.session import WAY


@pytest.fixture(autouse=True, params=[True, False], ids=["fast", "paho_alone"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Every test runs on both ways of MQTT."""
    fast: bool = request.param
    monkeypatch.setitem(WAY, "fast", fast)
    return fast
