"""An observer that is slower than the messages."""

import pytest

from contract.clock import SystemClock
from contract.errors import SettingsError
from infra.settings.broker import MqttSettings
from infra.settings.loader import Settings
from sarvis.watch.observer import MOST_WAITING, Dropped, Observer, check
from sarvis.watch.passing import Passing


async def test_what_comes_too_fast_is_counted_and_the_newest_stay() -> None:
    observer = Observer(MqttSettings(), "#", SystemClock(), lambda _: None)
    for number in range(MOST_WAITING + 3):
        observer._came(f"x/{number}".encode(), b"", retained=False)
    assert await observer.next() == Dropped(3)
    for number in range(3, MOST_WAITING + 3):
        found = await observer.next()
        assert isinstance(found, Passing)
        assert found.topic == f"x/{number}"
    assert not observer._waiting


@pytest.mark.parametrize(("user", "refused"), [("bridge.hub", True), ("jetson-1", True), ("operator.admin", False)])
def test_it_does_not_take_the_place_of_a_bridge_or_of_this_device(user: str, refused: bool) -> None:
    settings = Settings.model_validate({"mqtt": {"username": user}, "edge": {"device_id": "jetson-1"}})
    if refused:
        with pytest.raises(SettingsError, match="use an operator's"):
            check(settings)
    else:
        check(settings)
