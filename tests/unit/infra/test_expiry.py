import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from broker.provisioning import certs
from infra.expiry import Ending, Expiry, of_certificates, watch

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    quiet = structlog.get_config()["wrapper_class"]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    with capture_logs() as lines:
        yield lines
    structlog.configure(wrapper_class=quiet)


def ending(days: float, what: str = "bridge.tls_cert") -> Ending:
    return Ending(what, NOW + timedelta(days=days), "renew it")


def gauge(expiry: Expiry) -> dict[str, float]:
    (family,) = expiry.collect()
    return {sample.labels["what"]: sample.value for sample in family.samples}


@pytest.mark.parametrize(
    ("days", "event"), [(30.5, None), (30, "ends_soon"), (0.5, "ends_soon"), (0, "has_ended"), (-400, "has_ended")]
)
def test_what_ends_within_thirty_days_is_told_in_the_log(logged: list[Any], days: float, event: str | None) -> None:
    Expiry().look([ending(days)], NOW)
    assert [line["event"] for line in logged] == ([event] if event else [])
    if event:
        assert (logged[0]["what"], logged[0]["advice"], logged[0]["log_level"]) == (
            "bridge.tls_cert",
            "renew it",
            "warning",
        )


def test_it_is_told_once_a_day_and_each_thing_for_itself(logged: list[Any]) -> None:
    expiry = Expiry()
    for hour in range(49):
        expiry.look([ending(20), ending(10, "API key 1")], NOW + timedelta(hours=hour))
    assert [line["what"] for line in logged] == ["bridge.tls_cert", "API key 1"] * 3


def test_the_metric_tells_every_end_also_a_far_one_and_forgets_what_is_gone() -> None:
    expiry = Expiry()
    expiry.look([ending(800), ending(1, "API key 1")], NOW)
    expiry.note_peer(ending(3, "the certificate of box:8883"), NOW)
    assert gauge(expiry) == {
        "bridge.tls_cert": (NOW + timedelta(days=800)).timestamp(),
        "API key 1": (NOW + timedelta(days=1)).timestamp(),
        "the certificate of box:8883": (NOW + timedelta(days=3)).timestamp(),
    }
    expiry.look([ending(800)], NOW)
    assert set(gauge(expiry)) == {"bridge.tls_cert", "the certificate of box:8883"}


def test_a_peer_that_was_seen_is_told_of_again_the_next_day(logged: list[Any]) -> None:
    expiry = Expiry()
    expiry.note_peer(ending(3, "peer"), NOW)
    expiry.look([], NOW + timedelta(hours=25))
    assert [line["what"] for line in logged] == ["peer", "peer"]


def test_of_a_chain_the_first_counts_and_of_authorities_the_last_that_is_valid(tmp_path: Path) -> None:
    for name, days in (("one", 0), ("other", 100)):
        certs.make_authority(tmp_path / name, now=datetime.now(UTC) - timedelta(days=days))
    both = tmp_path / "both.pem"
    both.write_bytes((tmp_path / "other" / "ca.crt").read_bytes() + (tmp_path / "one" / "ca.crt").read_bytes())
    (shown, trusted) = of_certificates({"mqtt.cert_file": both}, {"mqtt.ca_file": both})
    assert shown.until == certs.load_certificate(tmp_path / "other" / "ca.crt").not_valid_after_utc
    assert trusted.until == certs.load_certificate(tmp_path / "one" / "ca.crt").not_valid_after_utc


def test_what_is_no_certificate_is_left_to_whoever_uses_it(tmp_path: Path) -> None:
    (tmp_path / "nonsense").write_text("nonsense")
    (tmp_path / "empty").touch()
    files = {name: tmp_path / name for name in ("nonsense", "empty", "missing")}
    assert of_certificates({**files, "none": None}, {**files, "none": None}) == []


async def test_the_first_look_is_at_the_start(logged: list[Any]) -> None:
    class Over(Exception):  # noqa: N818
        pass

    async def stop(_seconds: float) -> None:
        raise Over

    async def read() -> list[Ending]:
        return [ending(1)]

    clock: Any = SimpleNamespace(utc_now=lambda: NOW, sleep=stop)
    with pytest.raises(Over):
        await watch(read, clock)
    assert [line["event"] for line in logged if line["what"] == "bridge.tls_cert"] == ["ends_soon"]
