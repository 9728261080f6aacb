"""The exceptions of SARVIS.

SarvisError
├── SettingsError   a setting or an argument is wrong: exit code 2
├── StartError      something that the start requires is missing or in use: exit code 3
└── MessageError    bytes from the wire are not a valid message of this contract
"""


class SarvisError(Exception):
    """Base of every error that SARVIS raises on purpose; its text tells the user what to do next."""

    exit_code = 1


class SettingsError(SarvisError):
    """A setting, an argument or a file named by one is wrong."""

    exit_code = 2


class StartError(SarvisError):
    """Something that a process requires at start is missing or in use, for example its port."""

    exit_code = 3


class MessageError(SarvisError):
    """Bytes that came over the wire are not a valid message.

    Attributes:
        reason: one line for the log, without the payload.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
