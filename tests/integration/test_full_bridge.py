"""A bridge with room for one app: others are told when to come again, in the way that they can read."""

import json
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

from tests.support.waiting import PATIENCE_S, wait_for
from tests.support.world import HOST, NO_BROKER, Bridge


@pytest.mark.parametrize("way", ["fast", "plain"])
def test_a_newcomer_is_told_when_to_come_again(way: str, tmp_path: Path) -> None:
    settings = {"SARVIS_BRIDGE__MAX_SOCKETS": "1", "SARVIS_BRIDGE__WEBSOCKET": way}
    with Bridge(tmp_path, NO_BROKER, settings) as bridge:
        with bridge.app("alice") as app:
            for legacy in (False, True):
                with pytest.raises(InvalidStatus) as refused:
                    bridge.app("bob", legacy=legacy)
                answer = refused.value.response
                assert (answer.status_code, answer.headers["Retry-After"]) in {(503, "1"), (503, "2")}
            page = f"http://{HOST}:{bridge.port}"
            v2 = [Subprotocol("sarvis.v2")]
            url = f"ws://{HOST}:{bridge.port}/ws/app/bob/"
            with connect(url, origin=Origin(page), subprotocols=v2, proxy=None, open_timeout=PATIENCE_S) as browser:
                with pytest.raises(ConnectionClosed):
                    browser.recv()
                assert browser.close_code == 4000
                assert 1000 <= json.loads(browser.close_reason or "")["retry_ms"] <= 2000
            app.all_before()
        wait_for("its place is free", lambda: bridge.metric("sarvis_app_connections") == 0)
        with bridge.app("bob") as bob:
            bob.all_before()
