"""Who hears a topic: exact filters by dictionary, wildcards by scan; decides without I/O."""


class Subscriptions:
    """Every client's filters; nothing remains of a filter that nobody holds."""

    def __init__(self) -> None:
        self._exact: dict[str, dict[str, int]] = {}
        self._wild: dict[str, dict[str, int]] = {}
        self._filters: dict[str, set[str]] = {}

    def __len__(self) -> int:
        return len(self._exact) + len(self._wild)

    def add(self, client_id: str, topic_filter: str, qos: int) -> None:
        """Subscribe a client; a second time replaces the QoS."""
        self._table(topic_filter).setdefault(topic_filter, {})[client_id] = qos
        self._filters.setdefault(client_id, set()).add(topic_filter)

    def remove(self, client_id: str, topic_filter: str) -> bool:
        """Unsubscribe a client; False if it did not hold the filter."""
        held = self._filters.get(client_id)
        if held is None or topic_filter not in held:
            return False
        held.remove(topic_filter)
        if not held:
            del self._filters[client_id]
        table = self._table(topic_filter)
        del table[topic_filter][client_id]
        if not table[topic_filter]:
            del table[topic_filter]
        return True

    def drop(self, client_id: str) -> None:
        """Unsubscribe a client from everything."""
        for topic_filter in tuple(self._filters.get(client_id, ())):
            self.remove(client_id, topic_filter)

    def matching(self, topic: str) -> dict[str, int]:
        """The clients that hear a topic, each once with its highest QoS; a snapshot that is the caller's."""
        found = dict(self._exact.get(topic, ()))
        for topic_filter, holders in self._wild.items():
            if matches(topic_filter, topic):
                for client_id, qos in holders.items():
                    found[client_id] = max(qos, found.get(client_id, 0))
        return found

    def _table(self, topic_filter: str) -> dict[str, dict[str, int]]:
        return self._wild if has_wildcard(topic_filter) else self._exact


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


def _well_formed(text: str) -> bool:
    return bool(text) and "\0" not in text
