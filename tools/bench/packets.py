"""The wakes as bytes, and who is who in them. No input, no output."""

from tests.support.world import PREFIX
from tools.fuzz.rawmqtt import publish

DIGITS = 9


def user(app: int) -> str:
    """The uid of an app."""
    return f"user-{app:06d}"


def device(app: int) -> str:
    """The device that wakes an app."""
    return f"bench-{app:06d}"


def topic(app: int) -> str:
    """Where that device says its wakes."""
    return f"{PREFIX}/devices/{device(app)}/wake"


def command(number: int) -> str:
    """What the wake of this number says; every system passes it on."""
    return f"wake_up {number:0{DIGITS}d}"


def wake_id(name: str, number: int) -> str:
    """An id that only one wake has, if no other load has the name."""
    return f"{name}-{number:0{DIGITS}d}"


def wake(name: str, number: int, app: int, qos: int) -> bytes:
    """The PUBLISH of a wake, with all the keys that `sarvis edge` sends."""
    payload = (
        f'{{"uid":"{user(app)}","command":"{command(number)}","timestamp":"2026-01-01T00:00:00.000000+00:00","v":1,'
        f'"id":"{wake_id(name, number)}","device_id":"{device(app)}","boot":1,"seq":{number},"age_ms":0,'
        f'"ttl_ms":10000,"score":0.9731,"model":"bench"}}'
    )
    return publish(topic(app).encode(), payload.encode(), qos=qos, packet_id=number % 60_000 + 1)
