"""The client ids of devices and bridges. A device never gets the client id of a bridge, whatever names both have.

A broker ends the older connection when a client id connects again: two clients with one id would end each other's
connections for ever.
"""

PREFIX = "sarvis-"
_OF_BRIDGES = f"{PREFIX}bridge-"
_APART = f"{PREFIX}device:"
"""A device id has no colon, so no device's client id begins with this."""


def of_bridge(instance: str) -> str:
    """The client id of a bridge."""
    return f"{_OF_BRIDGES}{instance}"


def of_device(device_id: str) -> str:
    """The client id of a device; a name like a bridge's client id (`bridge-1`) gets a prefix of its own."""
    usual = f"{PREFIX}{device_id}"
    return f"{_APART}{device_id}" if usual.startswith(_OF_BRIDGES) else usual
