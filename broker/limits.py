"""What one client may cost the broker."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on time, bytes and messages; what happens at each bound is said beside it."""

    connect_timeout_s: float = 10.0
    """A socket that has not sent CONNECT by then is closed."""

    close_timeout_s: float = 1.0
    """A socket that has not taken its last bytes by then is aborted."""

    max_packet_bytes: int = 1 << 20
    """A client that announces a longer packet is disconnected."""

    max_unsent_bytes: int = 8 << 20
    """Above, QoS 0 messages to the client are dropped; its next QoS 1 message, or twice as much, cuts it off."""

    max_unacked: int = 20_000
    """A client that leaves more messages unacknowledged is cut off; above `max_retained`, for those come at once.

    The same holds for QoS 2 messages that it begins to send and never releases. Twice as many must be below 65,536, the
    number of packet ids.
    """

    max_unacked_bytes: int = 32 << 20
    """A client whose unacknowledged messages cost more is cut off; above `max_retained_bytes`, as before."""

    max_offline: int = 1_000
    """Messages kept for an absent persistent session; the oldest is dropped."""

    max_offline_bytes: int = 8 << 20
    """What they may cost, by `backlog.cost`; the oldest are dropped, and one that alone costs more is not kept."""

    max_kept_bytes: int = 64 << 20
    """What all absent sessions may cost together; above, those that are absent longest are forgotten."""

    max_retained: int = 10_000
    """Retained topics; a message to one more is delivered but not retained."""

    max_retained_bytes: int = 6 << 20
    """Their topics and payloads; as before. Below `max_unsent_bytes`, for who hears everything gets them at once."""

    max_filter_bytes: int = 8 << 20
    """One client's filters, each with `backlog.OVERHEAD_BYTES`, so some 15,000; one more is refused with 0x80.

    One with + or # counts so much again for each of its levels.
    """

    max_all_filter_bytes: int = 128 << 20
    """The filters of all clients, likewise."""

    max_wildcards: int = 1_000
    """One client's filters with + or #, for many that match cost a publish; one more is refused with 0x80."""

    session_expiry_s: int = 24 * 3600
    """An absent persistent session is forgotten after that."""

    max_publish_per_s: float = 2_000.0
    """A client that publishes more for longer than two seconds is read no faster: it waits, the others do not.

    A filter that it subscribes to or unsubscribes from counts like a message, and so does each that is sent because it
    was retained.
    """

    max_sessions: int = 10_000
    """Of persistent sessions; for one more the one that is absent longest is forgotten."""

    max_connections: int = 10_000
    """One more is closed at once."""

    max_unnamed_per_address: int = 1_000
    """Connections of one address that have not been let in yet; one more is closed at once."""

    recheck_s: float = 1.0
    """So often it is looked whether connected users still exist, and still have the same password."""
