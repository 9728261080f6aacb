"""The guarantees that are probed, which of them SARVIS requires, and what it does without them. No I/O."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Guarantee:
    """One property of a broker.

    Attributes:
    key: its name in JSON.
    text: the property, as a sentence.
    needed: whether SARVIS does not work as documented without it.
    sarvis: what SARVIS does about it, or what is lost without it.
    figure: a measured value, which cannot hold or fail.
    """

    key: str
    text: str
    needed: bool
    sarvis: str
    figure: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a probe.

    Attributes:
    holds: None for a measured value.
    seen: what was counted or measured.
    """

    guarantee: Guarantee
    holds: bool | None
    seen: str

    @classmethod
    def of_end(cls, guarantee: Guarantee, why: str) -> "Finding":
        """The finding for a guarantee whose probe did not finish."""
        return cls(guarantee, None if guarantee.figure else False, why)

    @property
    def missing(self) -> bool:
        """Whether a required guarantee is missing."""
        return self.guarantee.needed and self.holds is False

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {**asdict(self.guarantee), "holds": self.holds, "seen": self.seen}


def verdict(findings: Iterable[Finding]) -> int:
    """The exit code: 1 if a required guarantee is missing."""
    return int(any(finding.missing for finding in findings))


PREFIX = Guarantee(
    "prefix", "topics below mqtt.prefix arrive under the names that they were given", True,
    "nothing: bridge and devices do not receive each other's messages; choose another mqtt.prefix, for example "
    "sarvis/v1",
)  # fmt: skip
DELIVERY = Guarantee(
    "delivery", "QoS 1: each message arrives, in its order", True,
    "a wake is repeated inside its life, a log-out until the device confirms it; both cost time",
)  # fmt: skip
COMMANDS = Guarantee(
    "commands", "a command reaches its device, and no other client", True, "nothing: log-in and log-out go this way",
)  # fmt: skip
PAYLOAD = Guarantee(
    "payload", "messages of 8 KiB pass", True, "nothing: the contract allows messages of this size",
)  # fmt: skip
RETAINED_EXACT = Guarantee(
    "retained_exact", "a late subscriber receives retained messages", False,
    "a device's hello informs the bridge, at the latest after 5 minutes; tools that connect later see less",
)  # fmt: skip
RETAINED_WILDCARD = Guarantee(
    "retained_wildcard", "also through a filter with +", False,
    "a device's hello informs the bridge, at the latest after 5 minutes; tools that connect later see less",
)  # fmt: skip
RETAINED_PRIVATE = Guarantee(
    "retained_private", "retained messages come only to those who subscribed", True,
    "edges ignore retained commands; but clients read topics without the right to",
)  # fmt: skip
WILL_SOCKET = Guarantee(
    "will_socket", "the will of a client whose socket dies is published", True,
    "the lease ends on the device all the same; observers see it online for ever",
)  # fmt: skip
WILL_KEEPALIVE = Guarantee(
    "will_keepalive", "a client that falls silent is dropped, its will published", True,
    "the lease ends on the device all the same; observers see it online for ever",
)  # fmt: skip
TAKE_OVER = Guarantee(
    "take_over", "a client id that connects again replaces its older connection", True,
    "nothing: after a change of network a device would be connected twice, or receive nothing",
)  # fmt: skip
TAKE_OVER_PERSISTENT = Guarantee(
    "take_over_persistent", "with a persistent session the newer one keeps receiving", False,
    "SARVIS uses clean sessions",
)  # fmt: skip
TAKE_OVER_WILL = Guarantee(
    "take_over_will", "the newer connection of a take-over keeps its will until it ends", True,
    "the lease ends on the device all the same; observers see it online for ever",
)  # fmt: skip
TAKE_OVER_SILENT = Guarantee(
    "take_over_silent", "also when it falls silent after the take-over", True,
    "the lease ends on the device all the same; observers see it online for ever",
)  # fmt: skip
TAKE_OVER_STATUS = Guarantee(
    "take_over_status", "after a take-over the newer connection's message is retained", False,
    "the bridge ignores the will of an earlier boot and waits offline_grace_s; observers see the device offline "
    "until its next hello, at the latest after 5 minutes",
)  # fmt: skip
TAKE_OVER_OLDER_WILL = Guarantee(
    "take_over_older_will", "the will of the older connection at a take-over", False,
    "either will do: the bridge waits offline_grace_s for the newer connection's status", figure=True,
)  # fmt: skip
TAKE_OVER_TWICE = Guarantee(
    "take_over_twice", "of three connections in quick succession the newest receives, and has its will", True,
    "nothing: after a change of network a device would receive nothing, or appear online for ever",
)  # fmt: skip
WILL_NEWEST = Guarantee(
    "will_newest", "a client that reconnects with another will has that one, and no older one", True,
    "the bridge ignores the will of an earlier boot; observers see a wrong status",
)  # fmt: skip
WILL_RETAINED = Guarantee(
    "will_retained", "a retained will replaces the status that was retained", True,
    "later observers see an absent device online, until the bridge has received nothing from it for a lease",
)  # fmt: skip
RETAINED_CLEARED = Guarantee(
    "retained_cleared", "an empty message clears a retained message, and a later one is retained again", False,
    "observers see a removed device; the ledger has the right list",
)  # fmt: skip
CLEAN_SESSION = Guarantee(
    "clean_session", "a clean session begins with nothing of an earlier persistent one", False,
    "an edge accepts a log-in only as answer to its hello; an old log-out of an ended session changes nothing",
)  # fmt: skip
UNSUBSCRIBE = Guarantee(
    "unsubscribe", "nothing comes after UNSUBSCRIBE", False, "SARVIS does not unsubscribe",
)  # fmt: skip
STRANGER = Guarantee(
    "stranger", "no client connects without a credential", True,
    "nothing on this side: any client that reaches the broker commands every device",
)  # fmt: skip
WRONG_PASSWORD = Guarantee(
    "wrong_password", "a wrong password is refused", True, "nothing on this side",
)  # fmt: skip
FOREIGN_PUBLISH = Guarantee(
    "foreign_publish", "a device cannot speak for another", True,
    "with auth.mode = required the bridge rejects wakes for foreign users, but trusts the topic's device id",
)  # fmt: skip
FOREIGN_SUBSCRIBE = Guarantee(
    "foreign_subscribe", "a device cannot receive another's commands", True, "nothing on this side",
)  # fmt: skip
FORGED_COMMAND = Guarantee(
    "forged_command", "a device cannot give commands", True,
    "an edge accepts a log-in only as answer to its hello; a forged log-out logs it out",
)  # fmt: skip
OFFLINE_QUEUE = Guarantee(
    "offline_queue", "messages for an absent persistent session are queued", False,
    "the ledger repeats log-outs: SARVIS uses clean sessions",
)  # fmt: skip
RESTART_RETAINED = Guarantee(
    "restart_retained", "a restart keeps retained messages", False, "bridge and devices publish their status again",
)  # fmt: skip
RESTART_QUEUE = Guarantee(
    "restart_queue", "a restart keeps queued messages", False,
    "the ledger repeats log-outs: SARVIS uses clean sessions",
)  # fmt: skip
LATENCY = Guarantee("latency", "from publisher to subscriber", False, "each wake takes this once", figure=True)
SHARED = Guarantee("shared", "$share subscriptions", False, "not used", figure=True)
MQTT_5 = Guarantee("mqtt_5", "MQTT 5", False, "not used: SARVIS speaks 3.1.1", figure=True)
FILTERS = Guarantee(
    "filters", "10,000 exact subscriptions slow nothing down", False, "the bridge holds one wildcard filter per kind",
)  # fmt: skip
WINDOW = Guarantee(
    "window", "a subscriber that also publishes is served at once, 60,000 messages long", True,
    "a wake that waits is repeated after 2 s; Mosquitto 2.0 needs max_inflight_messages 0 (docs/operations.md)",
)  # fmt: skip

GUARANTEES: tuple[Guarantee, ...] = (
    PREFIX, STRANGER, WRONG_PASSWORD, DELIVERY, COMMANDS, LATENCY, UNSUBSCRIBE, FOREIGN_PUBLISH, FOREIGN_SUBSCRIBE,
    FORGED_COMMAND, PAYLOAD, RETAINED_EXACT, RETAINED_WILDCARD, RETAINED_PRIVATE, RETAINED_CLEARED, WILL_SOCKET,
    WILL_RETAINED, WILL_NEWEST, TAKE_OVER, TAKE_OVER_PERSISTENT, TAKE_OVER_OLDER_WILL, TAKE_OVER_STATUS, TAKE_OVER_WILL,
    TAKE_OVER_TWICE, CLEAN_SESSION, OFFLINE_QUEUE, FILTERS, SHARED, MQTT_5, WILL_KEEPALIVE, TAKE_OVER_SILENT,
    RESTART_RETAINED, RESTART_QUEUE, WINDOW,
)  # fmt: skip
"""All guarantees, in the order in which they are probed."""
