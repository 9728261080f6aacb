"""Why a user cannot be logged in on a device."""

from contract.errors import SarvisError

BEHIND = "runs with an older copy of its state; update the software on it, or delete its state file there"


class NoSuchDeviceError(SarvisError):
    """No operator has added this device, or one has removed it.

    Attributes:
        device_id: its name.
    """

    def __init__(self, device_id: str) -> None:
        super().__init__(f"there is no device {device_id}; an operator adds it with `sarvis device add`")
        self.device_id = device_id


class DeviceBehindError(SarvisError):
    """The device runs with an older copy of its state and stays behind: it would not receive a log-in.

    Attributes:
        device_id: its name.
    """

    def __init__(self, device_id: str) -> None:
        super().__init__(f"{device_id} {BEHIND}")
        self.device_id = device_id
