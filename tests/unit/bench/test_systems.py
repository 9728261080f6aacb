import json
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from tools.bench import systems
from tools.bench.guide_server import config


def test_the_documented_server_runs_on_what_its_guide_installs() -> None:
    chosen = config(FastAPI())
    chosen.load()
    factory = chosen.get_loop_factory()
    assert factory is not None
    loop = factory()
    loop.close()

    # By name: "auto" comes to the same only where nothing faster is installed.
    assert (chosen.loop, chosen.http) == ("asyncio", "h11")
    assert chosen.http_protocol_class.__module__ == "uvicorn.protocols.http.h11_impl"
    assert chosen.ws_protocol_class is not None
    assert chosen.ws_protocol_class.__module__ == "uvicorn.protocols.websockets.websockets_sansio_impl"
    assert type(loop).__module__.startswith("asyncio.")


def test_of_websockets_uvicorn_would_choose_the_same_by_itself() -> None:
    itself, chosen = uvicorn.Config(FastAPI()), config(FastAPI())
    itself.load()
    chosen.load()

    assert itself.ws_protocol_class is chosen.ws_protocol_class


def test_each_wire_of_the_flow_leads_to_a_node_of_it() -> None:
    nodes = {
        node["id"]: node for node in json.loads((Path(systems.__file__).parent / "node_red_flow.json").read_text())
    }
    wires = [target for node in nodes.values() for output in node.get("wires", ()) for target in output]

    assert len(nodes) == 14
    assert {"ring", "out", "response"} <= set(wires) <= nodes.keys()
    # Without a place Node-RED takes a node for one of its settings.
    assert all(("x" in node) == ("wires" in node) for node in nodes.values())
