"""The table of the console's log-ins: when one ends, and that it is bounded."""

from bridge.console.logins import IDLE_S, LINK_S, LONGEST_S, Logins


def test_a_cookie_finds_its_log_in_and_no_other_does() -> None:
    logins = Logins()
    cookie = logins.begin("key-1", 0)
    other = logins.begin("key-2", 0)
    found = logins.find(cookie, 1)
    assert found is not None
    assert found.key_id == "key-1"
    assert logins.find("", 1) is None
    assert logins.find(cookie[:-1], 1) is None
    second = logins.find(other, 1)
    assert second is not None
    assert (second.key_id, second.token == found.token) == ("key-2", False)


def test_an_unused_log_in_ends_after_half_an_hour_and_a_used_one_after_half_a_day() -> None:
    logins = Logins()
    unused, used = logins.begin("key", 0), logins.begin("key", 0)
    now = 0.0
    while now + IDLE_S / 2 < LONGEST_S:
        now += IDLE_S / 2
        assert logins.find(used, now) is not None, now
    assert logins.find(unused, IDLE_S) is None
    assert logins.find(used, LONGEST_S) is None
    assert len(logins) == 0


def test_a_page_that_loads_itself_again_is_no_use_of_its_log_in() -> None:
    logins = Logins()
    cookie = logins.begin("key", 0)
    assert logins.find(cookie, IDLE_S - 1, uses=False) is not None
    assert logins.find(cookie, IDLE_S, uses=False) is None


def test_a_log_in_that_is_over_ends_at_once() -> None:
    logins = Logins()
    cookie = logins.begin("key", 0)
    logins.end(cookie)
    logins.end("another")
    assert logins.find(cookie, 0) is None


def test_the_table_is_bounded_and_forgets_the_one_longest_unused() -> None:
    logins = Logins(2)
    first, second = logins.begin("first", 0), logins.begin("second", 1)
    assert logins.find(first, 2) is not None
    third = logins.begin("third", 3)
    assert len(logins) == 2
    assert logins.find(second, 4) is None
    assert logins.find(first, 4) is not None
    assert logins.find(third, 4) is not None


def test_the_table_holds_no_cookie() -> None:
    logins = Logins()
    cookie = logins.begin("key", 0)
    assert cookie not in repr(logins._logins)


def test_a_link_is_used_once_and_in_time() -> None:
    logins = Logins(2)
    first, second = logins.link("one", 0), logins.link("two", 0)
    assert logins.use("another", 1) is None
    assert logins.use(first, 1) == "one"
    assert logins.use(first, 1) is None
    assert logins.use(second, LINK_S) is None
    assert logins.use(second, 0) is None, "it is used up also when it was too old"


def test_links_are_bounded_and_not_kept() -> None:
    logins = Logins(2)
    made = [logins.link(name, 0) for name in ("a", "b", "c")]
    assert [logins.use(once, 1) for once in made] == [None, "b", "c"]
    once = logins.link("d", 0)
    assert once not in repr(logins._links)
