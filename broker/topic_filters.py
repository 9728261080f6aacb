"""Topics and topic filters of MQTT 3.1.1: which are valid, which match. No I/O."""

MAX_SLASHES = 200


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
    """Whether a topic or filter has more levels than Mosquitto accepts; each of them costs time and memory."""
    return topic.count("/") > MAX_SLASHES


def valid_topic(topic: str) -> bool:
    """Whether a client may name this topic in PUBLISH or in its will; `$` belongs to brokers."""
    return _well_formed(topic) and not has_wildcard(topic) and not topic.startswith("$")


def valid_filter(topic_filter: str) -> bool:
    """Whether this broker can serve a filter; it has no shared subscriptions (`$share`)."""
    levels = topic_filter.split("/")
    return (
        _well_formed(topic_filter)
        and levels[0] != "$share"
        and "#" not in "".join(levels[:-1])
        and all(level in ("+", "#") or not has_wildcard(level) for level in levels)
    )


def covers(granted: str, wanted: str) -> bool:
    """Whether every topic that the valid filter (or topic) `wanted` matches is matched by the filter `granted`."""
    have, want = granted.split("/"), wanted.split("/")
    if wanted.startswith("$") and have[0] in {"+", "#"}:
        return False
    for index, level in enumerate(have):
        if level == "#":
            return True
        if index == len(want):
            return False
        # A wildcard is wider than any name; `+` covers names and `+`, but never `#`.
        if want[index] == "#" or (level not in {"+", want[index]}):
            return False
    return len(have) == len(want)


def _well_formed(text: str) -> bool:
    return bool(text) and "\0" not in text and not too_deep(text)
