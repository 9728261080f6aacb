"""Which push services fail now."""

from bridge.push.failing import LOOKS_BACK_S, MOST_SERVICES, FailingServices


def test_a_service_fails_until_it_takes_a_push() -> None:
    services = FailingServices()
    services.ended("https://a", "accepted", 0.0)
    services.ended("https://a", "refused", 10.0)
    services.ended("https://b", "given_up", 5.0)
    services.ended("https://a", "given_up", 20.0)
    told = [(one.service, one.result, one.since, one.last, one.count) for one in services.now(20.0)]
    assert told == [("https://b", "given_up", 5.0, 5.0, 1), ("https://a", "given_up", 10.0, 20.0, 2)]
    services.ended("https://a", "accepted", 30.0)
    assert [one.service for one in services.now(30.0)] == ["https://b"]


def test_what_is_no_fault_of_a_service_does_not_count() -> None:
    services = FailingServices()
    for result in ("gone", "no_room", "not_needed"):
        services.ended("https://a", result, 0.0)
    assert services.now(0.0) == []


def test_a_failure_of_long_ago_is_not_told() -> None:
    services = FailingServices()
    services.ended("https://a", "refused", 0.0)
    assert services.now(LOOKS_BACK_S - 1)
    assert services.now(LOOKS_BACK_S) == []


def test_the_number_of_services_is_bounded() -> None:
    services = FailingServices()
    for number in range(MOST_SERVICES + 1):
        services.ended(f"https://{number}", "refused", float(number))
    assert len(services.now(MOST_SERVICES)) == MOST_SERVICES
    assert "https://0" not in {one.service for one in services.now(MOST_SERVICES)}
