"""What waits for the client of a persistent session; decides without I/O."""

from collections import deque

from broker.journal import Message


class Waiting:
    """Messages in the order in which they came, bounded in number and in bytes of topic and payload."""

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._messages: deque[Message] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._messages)

    def put(self, message: Message) -> list[Message]:
        """Let it wait; what is over the bounds now, the oldest first, waits no longer and is returned."""
        self._messages.append(message)
        self._bytes += message.size
        dropped = []
        while len(self._messages) > self._max_messages or self._bytes > self._max_bytes:
            oldest = self._messages.popleft()
            self._bytes -= oldest.size
            dropped.append(oldest)
        return dropped

    def take_all(self) -> list[Message]:
        """What waited, which is the caller's now."""
        messages = list(self._messages)
        self._messages.clear()
        self._bytes = 0
        return messages
