"""An end for paho's clients that leaves nothing to the garbage collector."""

from paho.mqtt import client as paho


def end(client: paho.Client) -> None:
    """Disconnect, stop the thread, and close the pair of sockets by which it is woken.

    paho closes that pair in `__del__`; in a cycle the collector may come to the sockets first, and warns of them.
    """
    client.disconnect()
    client.loop_stop()
    client._reset_sockets(sockpair_only=True)
