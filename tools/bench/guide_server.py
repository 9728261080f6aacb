"""The server of the documented guide, as somebody builds it who follows it: `python -m tools.bench.guide_server`.

The same structure and libraries: FastAPI, a dictionary of sockets, `send_json`, uvicorn as it comes. Wakes come
over HTTP as there, and by MQTT through a paho client in its thread, the first thing that its tutorials show. The call
to the device at a time-out is left out: nothing times out while it is measured.
"""

import argparse
import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion
from pydantic import BaseModel

from tests.support.world import HOST, PREFIX

LOOK_EVERY_S = 60
TIMEOUT_S = 3600


def now() -> str:
    return datetime.now(UTC).isoformat()


class ConnectionManager:
    def __init__(self) -> None:
        self.active_connections: dict[str, WebSocket] = {}
        self.last_heartbeat: dict[str, datetime] = {}

    async def connect(self, websocket: WebSocket, connection_uuid: str) -> None:
        await websocket.accept()
        self.active_connections[connection_uuid] = websocket
        self.update_heartbeat(connection_uuid)
        print(f"connected: {connection_uuid}")

    def disconnect(self, connection_uuid: str) -> None:
        self.active_connections.pop(connection_uuid, None)
        self.last_heartbeat.pop(connection_uuid, None)
        print(f"disconnected: {connection_uuid}")

    async def send_personal_message(self, message: dict[str, Any], connection_uuid: str) -> bool:
        if connection_uuid not in self.active_connections:
            return False
        await self.active_connections[connection_uuid].send_json(message)
        return True

    def update_heartbeat(self, connection_uuid: str) -> None:
        self.last_heartbeat[connection_uuid] = datetime.now(UTC)

    async def check_timeouts(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            moment = datetime.now(UTC)
            for connection_uuid, heard in list(self.last_heartbeat.items()):
                if (moment - heard).total_seconds() > TIMEOUT_S:
                    await self.active_connections[connection_uuid].close()
                    self.disconnect(connection_uuid)


class VoiceTriggerRequest(BaseModel):
    uid: str
    command: str
    timestamp: str


manager = ConnectionManager()


def create_app(mqtt_port: int) -> FastAPI:
    """The application; its MQTT client lives as long as it does."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        watchdog = asyncio.create_task(manager.check_timeouts())

        def on_connect(client: paho.Client, *_: Any) -> None:
            client.subscribe(f"{PREFIX}/devices/+/wake", qos=1)

        def on_message(_client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
            wake = json.loads(message.payload)
            asyncio.run_coroutine_threadsafe(call(wake["uid"], wake["command"]), loop)

        client = paho.Client(CallbackAPIVersion.VERSION2, client_id="guide")
        client.on_connect = on_connect
        client.on_message = on_message
        client.on_subscribe = lambda *_: print("subscribed", flush=True)
        client.connect(HOST, mqtt_port)
        client.loop_start()
        yield
        client.disconnect()
        client.loop_stop()
        watchdog.cancel()

    app = FastAPI(lifespan=lifespan)
    app.add_api_websocket_route("/ws/app/{connection_uuid}/", websocket_endpoint)
    app.add_api_route("/api/voice-command/trigger", trigger_voice_command, methods=["POST"])
    return app


async def call(uid: str, command: str) -> bool:
    return await manager.send_personal_message({"type": "voice_command", "command": command, "timestamp": now()}, uid)


async def websocket_endpoint(websocket: WebSocket, connection_uuid: str) -> None:
    await manager.connect(websocket, connection_uuid)
    try:
        await manager.send_personal_message(
            {
                "type": "connection_established",
                "message": "Connected to SARVIS Server",
                "connection_uuid": connection_uuid,
                "timestamp": now(),
            },
            connection_uuid,
        )
        while True:
            data = await websocket.receive_json()
            if data.get("type") == "heartbeat":
                manager.update_heartbeat(connection_uuid)
                await manager.send_personal_message(
                    {"type": "heartbeat_ack", "timestamp": now(), "status": "active"}, connection_uuid
                )
    except WebSocketDisconnect:
        manager.disconnect(connection_uuid)


async def trigger_voice_command(request: VoiceTriggerRequest) -> dict[str, Any]:
    if await call(request.uid, request.command):
        return {"success": True, "message": "Command sent"}
    return {"success": False, "message": "User not connected"}


def config(app: FastAPI) -> uvicorn.Config:
    """What uvicorn chooses by itself after `pip install fastapi uvicorn websockets`, which is what the guide says.

    It takes faster libraries (uvloop, httptools) as soon as they are there, and for this project they may be.
    """
    return uvicorn.Config(app, loop="asyncio", http="h11", ws="websockets-sansio")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.bench.guide_server", description=__doc__)
    parser.add_argument("mqtt_port", type=int)
    arguments = parser.parse_args()
    listening = socket.create_server((HOST, 0), backlog=2048)
    print(f"guide listening on http://{HOST}:{listening.getsockname()[1]}", flush=True)
    uvicorn.Server(config(create_app(arguments.mqtt_port))).run(sockets=[listening])


if __name__ == "__main__":
    main()
