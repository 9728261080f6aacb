"""The limits of the embedded broker, each with what happens at it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on time, bytes and messages, each with what happens when it is reached."""

    connect_timeout_s: float = 10.0
    """A socket that has not sent CONNECT by then is closed."""

    close_timeout_s: float = 1.0
    """A socket that has not taken its last bytes by then is aborted."""

    max_packet_bytes: int = 1 << 20
    """A client that announces a longer packet is disconnected."""

    max_unsent_bytes: int = 8 << 20
    """Above, QoS 0 messages to the client are dropped.

    At its next QoS 1 message, or at twice as much, it is cut off.
    """

    max_unacked: int = 20_000
    """A client with more unacknowledged messages is cut off; above `max_retained`, because those come at once.

    The same holds for QoS 2 messages that it begins to send and never releases. Twice as many must be below 65,536, the
    number of packet ids.
    """

    max_unacked_bytes: int = 32 << 20
    """A client whose unacknowledged messages cost more is cut off; above `max_retained_bytes`, for the same reason."""

    max_offline: int = 1_000
    """Messages queued for an absent persistent session; the oldest is dropped."""

    max_offline_bytes: int = 8 << 20
    """Their cost, by `offline_queue.cost`.

    The oldest are dropped, and a message that alone costs more is not queued.
    """

    max_kept_bytes: int = 64 << 20
    """The cost of all absent sessions together; above, those absent longest are deleted."""

    max_retained: int = 10_000
    """Retained topics; a message to one more is delivered but not retained."""

    max_retained_bytes: int = 6 << 20
    """Their topics and payloads, likewise.

    Below `max_unsent_bytes`, because a client that subscribes to all gets them at once.
    """

    max_filter_bytes: int = 8 << 20
    """One client's filters, each with `offline_queue.OVERHEAD_BYTES`, so some 15,000; one more is refused with 0x80.

    One with + or # costs as much again for each of its levels.
    """

    max_all_filter_bytes: int = 128 << 20
    """The filters of all clients, likewise."""

    max_wildcards: int = 1_000
    """One client's filters with + or #, because each that matches costs time at a publish.

    One more is refused with 0x80.
    """

    session_expiry_s: int = 24 * 3600
    """An absent persistent session is deleted after that."""

    max_publish_per_s: float = 2_000.0
    """A client that publishes more for longer than two seconds is read no faster: it waits, the others do not.

    Subscribing to or unsubscribing from a filter counts like a message; so does each retained message that is sent.
    """

    max_sessions: int = 10_000
    """Persistent sessions; for one more the one absent longest is deleted."""

    max_connections: int = 10_000
    """At most as many as this process may open files for. One more is closed at once.

    A connection without CONNECT for two seconds is closed to make room; an accepted one is not.
    """

    max_unnamed_per_address: int = 1_000
    """Connections of one address that are not accepted yet, at most half of all; one more is closed at once."""

    recheck_s: float = 1.0
    """How often connected users are checked for removal and changed passwords."""
