"""Who hears a topic: exact filters by dictionary, wildcards by a tree of levels; decides without I/O."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from broker.backlog import OVERHEAD_BYTES
from broker.limits import Limits

MAX_SLASHES = 200


@dataclass(slots=True)
class _Held:
    """One client's filters, and what they cost."""

    filters: set[str] = field(default_factory=set)
    wildcards: int = 0
    cost: int = 0


class _Node:
    """A level of the filters with wildcards: who holds the filter that ends here, and what may follow."""

    __slots__ = ("holders", "next")

    def __init__(self) -> None:
        self.holders: dict[str, int] = {}
        self.next: dict[str, _Node] = {}


class Subscriptions:
    """Every client's filters, as many as the limits allow; nothing remains of a filter that nobody holds.

    Attributes:
        cost: what all filters cost, in bytes.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self.cost = 0
        self._limits = limits or Limits()
        self._exact: dict[str, dict[str, int]] = {}
        self._wild = _Node()
        self._wilds = 0
        self._held: dict[str, _Held] = {}

    def __len__(self) -> int:
        return len(self._exact) + self._wilds

    def add(self, client_id: str, topic_filter: str, qos: int) -> bool:
        """Subscribe a client, False if that is too much; a second time replaces the QoS."""
        held = self._held.get(client_id) or _Held()
        if topic_filter not in held.filters:
            if not self._has_room(held, topic_filter):
                return False
            self._held[client_id] = held
            held.filters.add(topic_filter)
            self._count(held, topic_filter, 1)
        if not has_wildcard(topic_filter):
            self._exact.setdefault(topic_filter, {})[client_id] = qos
            return True
        node = self._wild
        for level in topic_filter.split("/"):
            node = node.next.setdefault(level, _Node())
        self._wilds += not node.holders
        node.holders[client_id] = qos
        return True

    def remove(self, client_id: str, topic_filter: str) -> bool:
        """Unsubscribe a client; False if it did not hold the filter."""
        held = self._held.get(client_id)
        if held is None or topic_filter not in held.filters:
            return False
        held.filters.remove(topic_filter)
        self._count(held, topic_filter, -1)
        if not held.filters:
            del self._held[client_id]
        if has_wildcard(topic_filter):
            self._remove_wild(client_id, topic_filter.split("/"))
            return True
        holders = self._exact[topic_filter]
        del holders[client_id]
        if not holders:
            del self._exact[topic_filter]
        return True

    def drop(self, client_id: str) -> None:
        """Unsubscribe a client from everything."""
        held = self._held.get(client_id)
        for topic_filter in tuple(held.filters) if held is not None else ():
            self.remove(client_id, topic_filter)

    def matching(self, topic: str) -> dict[str, int]:
        """The clients that hear a topic, each once with its highest QoS; a snapshot that is the caller's."""
        found = dict(self._exact.get(topic, ()))
        if self._wilds:
            for node in self._nodes_of(topic):
                for client_id, qos in node.holders.items():
                    found[client_id] = max(qos, found.get(client_id, 0))
        return found

    def _nodes_of(self, topic: str) -> Iterator[_Node]:
        nodes = [self._wild]
        hidden = topic.startswith("$")
        for level in topic.split("/"):
            following = []
            for node in nodes:
                if not hidden:
                    if (rest := node.next.get("#")) is not None:
                        yield rest
                    if (any_one := node.next.get("+")) is not None:
                        following.append(any_one)
                if (named := node.next.get(level)) is not None:
                    following.append(named)
            nodes, hidden = following, False
        for node in nodes:
            yield node
            if (rest := node.next.get("#")) is not None:  # a/# covers a, too
                yield rest

    def _remove_wild(self, client_id: str, levels: list[str]) -> None:
        path = [self._wild]
        for level in levels:
            path.append(path[-1].next[level])
        del path[-1].holders[client_id]
        self._wilds -= not path[-1].holders
        for level, parent in zip(reversed(levels), reversed(path[:-1]), strict=True):
            node = parent.next[level]
            if node.holders or node.next:
                return
            del parent.next[level]

    def _has_room(self, held: _Held, topic_filter: str) -> bool:
        more, limits = _cost(topic_filter), self._limits
        return (
            held.cost + more <= limits.max_filter_bytes
            and self.cost + more <= limits.max_all_filter_bytes
            and (held.wildcards < limits.max_wildcards or not has_wildcard(topic_filter))
        )

    def _count(self, held: _Held, topic_filter: str, sign: int) -> None:
        held.cost += sign * _cost(topic_filter)
        held.wildcards += sign * has_wildcard(topic_filter)
        self.cost += sign * _cost(topic_filter)


def matches(topic_filter: str, topic: str) -> bool:
    """Whether a valid filter covers a valid topic; `$` topics are hidden from leading wildcards."""
    if not has_wildcard(topic_filter):
        return topic_filter == topic
    if topic.startswith("$") and topic_filter[0] in "+#":
        return False
    levels = topic.split("/")
    wanted = topic_filter.split("/")
    if wanted[-1] == "#":
        wanted.pop()
        levels = levels[: len(wanted)]
    return len(levels) == len(wanted) and all(want in ("+", level) for want, level in zip(wanted, levels, strict=True))


def has_wildcard(text: str) -> bool:
    """Whether `+` or `#` occurs anywhere."""
    return "+" in text or "#" in text


def too_deep(topic: str) -> bool:
    """Whether a topic or filter has more levels than Mosquitto takes; each of them costs time and memory."""
    return topic.count("/") > MAX_SLASHES


def valid_topic(topic: str) -> bool:
    """Whether a client may name this topic in PUBLISH or in its will; `$` belongs to brokers."""
    return _well_formed(topic) and not has_wildcard(topic) and not topic.startswith("$")


def valid_filter(topic_filter: str) -> bool:
    """Whether this broker can serve a filter; shared subscriptions (`$share`) it cannot."""
    levels = topic_filter.split("/")
    return (
        _well_formed(topic_filter)
        and levels[0] != "$share"
        and "#" not in "".join(levels[:-1])
        and all(level in ("+", "#") or not has_wildcard(level) for level in levels)
    )


def _cost(topic_filter: str) -> int:
    nodes = 1 + topic_filter.count("/") if has_wildcard(topic_filter) else 0
    return len(topic_filter) + OVERHEAD_BYTES * (1 + nodes)


def _well_formed(text: str) -> bool:
    return bool(text) and "\0" not in text and not too_deep(text)
