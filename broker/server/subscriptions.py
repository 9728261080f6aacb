"""Finds the subscribers of a topic: a dictionary of exact filters, a tree of wildcards; without I/O."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from broker.server.limits import Limits
from broker.server.offline_queue import OVERHEAD_BYTES
from broker.topic_filters import has_wildcard


@dataclass(slots=True)
class _Held:
    """One client's filters, and their cost."""

    filters: set[str] = field(default_factory=set)
    wildcards: int = 0
    cost: int = 0


class _Node:
    """A level of the filters with wildcards: the clients of the filter that ends here, and the next levels."""

    __slots__ = ("holders", "next")

    def __init__(self) -> None:
        self.holders: dict[str, int] = {}
        self.next: dict[str, _Node] = {}


class Subscriptions:
    """Every client's filters, up to the limits; a filter without clients leaves nothing behind.

    Attributes:
    cost: of all filters, in bytes.
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
        """Subscribe a client, False beyond the limits; a second time replaces the QoS."""
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
        """The clients subscribed to a topic, each once with its highest QoS; a snapshot that the caller owns."""
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


def _cost(topic_filter: str) -> int:
    nodes = 1 + topic_filter.count("/") if has_wildcard(topic_filter) else 0
    return len(topic_filter) + OVERHEAD_BYTES * (1 + nodes)
