"""Where apps come in: at once where there is nothing to ask, else the plain way; for `uvicorn.Config(ws=...)`."""

from typing import ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from bridge.service import Bridge
from bridge.websocket.abortable import AbortableProtocol
from bridge.websocket.admission import Admission
from bridge.websocket.fast import FastConnection, House
from contract.guards import Origins


class Entrance(AbortableProtocol):
    """The plain way, before which `take_over` is asked."""

    admission: ClassVar[Admission]
    house: ClassVar[House]

    @classmethod
    def of(cls, bridge: Bridge, origins: Origins, turn_s: float) -> "type[Entrance]":
        """The entrance of one bridge; `turn_s` of its keep-alive."""
        shared = {"admission": Admission(bridge, origins), "house": House(bridge, turn_s)}
        return type("EntranceOfBridge", (cls,), shared)

    @classmethod
    def take_over(cls, http: HttpToolsProtocol) -> bool:
        """Serve the connection whose upgrade was read; False: that is left to the plain way."""
        raw_path, _, query = http.url.partition(b"?")
        scope = {
            "type": "websocket",
            "scheme": "wss" if http.scheme == "https" else "ws",
            "client": http.client,
            "headers": http.headers,
            "raw_path": raw_path,
            "query_string": query,
        }
        admitted = cls.admission.admit(scope)
        if admitted is None:
            return False
        connection = FastConnection(cls.house, http.transport, admitted, http.server_state)
        http.transport.set_protocol(connection)
        connection.begin(admitted.handshake)
        return True
