"""Attack: the HTTP endpoints by their own OpenAPI description, and bodies that no description allows."""

import time
import warnings
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import httpx2
import schemathesis
from hypothesis import strategies as st
from hypothesis.errors import HypothesisWarning
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import Status, events, from_schema

from tools.fuzz.payloads import payloads
from tools.fuzz.record import Budget, Kind, Result

BATCH = 50
EXAMPLES_A_ROUND = 60
REFUSALS = {400, 401, 403, 404, 405, 409, 411, 413, 415, 422, 429}
# A uid's form (printable, no slash) is no JSON schema: a body that fits the schema may get 422.
CHECKS: dict[str, Any] = {"positive_data_acceptance": {"enabled": False}}
GUARDED_CHECKS: dict[str, Any] = {"unsupported_method": {"enabled": False}}
"""Who may not come in learns nothing of methods: 401 and 403 come before 405."""

ENDS = ("/api/bridge/drain",)
"""Their purpose is to end the server, for those who may call them; see tests/integration/test_draining.py."""
NAMES = ("/api/ops/users", "/api/ops/devices", "/api/ops/logouts", "/api/ops/wakes")
"""They name the neighbour, whom the attack then logs out, as it may; see tests/integration/test_ops.py."""

Settle = Callable[[object], bool]


@dataclass(frozen=True)
class Server:
    """Where it is, how it describes itself, and what to send with every request."""

    url: str
    description: dict[str, Any]
    headers: dict[str, str]
    is_open: bool


def attack(
    url: str,
    budget: Budget,
    settled: Settle,
    result: Result,
    headers: Mapping[str, str] | None = None,
    *,
    reading: Mapping[str, str] | None = None,
) -> Result:
    """Half of the budget by the description with all of schemathesis's checks, half with arbitrary bodies.

    Args:
        url: the server; it must describe itself at /openapi.json.
        settled: asked from time to time with the last input; False ends the attack.
        result: what is found goes there.
        headers: sent with every request.
        reading: sent instead to read the description, where credentials are required.
    """
    halves = Budget(
        examples=None if budget.examples is None else budget.examples // 2,
        seconds=None if budget.seconds is None else budget.seconds / 2,
        seed=budget.seed,
        tell=budget.tell,
    )
    try:
        answer = httpx2.get(f"{url}/openapi.json", headers=dict(reading or headers or {}), trust_env=False)
        assert answer.status_code == 200, answer.text
        description = answer.json()
        for path in (*ENDS, *NAMES):
            description["paths"].pop(path, None)
        server = Server(url, description, dict(headers or {}), is_open=reading is None)
        if _by_description(server, halves, settled, result):
            _by_force(server, halves, settled, result)
    except httpx2.TransportError as error:
        result.found("crash", f"the server is not reached: {type(error).__name__}")
    return result


def _by_description(server: Server, budget: Budget, settled: Settle, result: Result) -> bool:
    ends = None if budget.seconds is None else time.monotonic() + budget.seconds
    began, seed = result.inputs, budget.seed
    while True:
        before = result.inputs
        with closing(_run(server, seed, budget)) as stream:
            for event in stream:
                _take(event, result)
                budget.tell(result.inputs - before)
                before = result.inputs
                if isinstance(event, events.ScenarioFinished) and not settled(event.recorder.label):
                    return False
                if ends is not None and time.monotonic() >= ends:
                    return True
        seed += 1
        if ends is None or (budget.examples is not None and result.inputs - began >= budget.examples):
            return True


def _run(server: Server, seed: int, budget: Budget) -> Generator[events.EngineEvent]:
    examples = EXAMPLES_A_ROUND if budget.examples is None else max(1, budget.examples // 8)
    config = SchemathesisConfig.from_dict(
        {
            "seed": seed,
            "base-url": server.url,
            "headers": server.headers,
            "checks": CHECKS | ({} if server.is_open else GUARDED_CHECKS),
            "generation": {"mode": "all", "max-examples": examples, "deterministic": True, "database": "none"},
            "phases": {"stateful": {"enabled": False}},
            "continue-on-failure": True,
        }
    )
    schema = schemathesis.openapi.from_dict(server.description, config=config)
    with warnings.catch_warnings():
        # About the size of an example, for which pytest would end the attack as if it were the server's fault.
        warnings.filterwarnings("ignore", "Generating overly large repr", HypothesisWarning)
        yield from from_schema(schema).execute()


def _take(event: events.EngineEvent, result: Result) -> None:
    """Count requests and failed checks of an event."""
    match event:
        case events.ScenarioFinished():
            recorder = event.recorder
            result.inputs += len(recorder.interactions)
            for case_id, found in recorder.checks.items():
                for check in found:
                    if check.status is not Status.FAILURE:
                        continue
                    failure = check.failure_info
                    why = str(failure.failure) if failure is not None else ""
                    example = failure.code_sample if failure is not None else case_id
                    kind: Kind = "server_error" if check.name == "not_a_server_error" else "broken"
                    result.found(kind, f"{recorder.label}: {check.name}: {' '.join(why.split())[:160]}", example)
        case events.NonFatalError():
            result.found("broken", f"{event.label}: {event.info.title}: {event.info.message}"[:300])
        case events.FatalError():
            result.found("broken", f"schemathesis: {event.exception!r}")


@dataclass(frozen=True)
class Request:
    """A request that no client library would make."""

    method: str
    path: str
    body: bytes
    content_type: str | None


def requests(paths: list[str]) -> st.SearchStrategy[Request]:
    """Mostly POST to paths that exist, with bodies that are almost right."""
    return st.builds(
        Request,
        st.sampled_from(["POST"] * 8 + ["GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "BREW"]),
        st.sampled_from(
            [*paths * 3, "/", "/api", "/docs", "/livez/", "/metrics?x=%ff", "/%00", "/..%2f..", "/" + "x" * 9000]
        ),
        st.one_of(
            payloads("body"),
            payloads("body"),
            st.sampled_from(
                [b"", b"x" * 65_536, b"x" * 65_537, b"[" * 60_000, b'{"uid":' * 9000, b"\0", b"9" * 60_000]
            ),
        ),
        st.sampled_from(
            [
                "application/json",
                "application/json",
                None,
                "",
                "text/plain",
                "application/json; charset=utf-16",
                "a/b/c",
                "multipart/form-data",
                "multipart/form-data; boundary=x",
                "application/x-www-form-urlencoded",
                "x" * 5000,
            ]
        ),
    )


def _by_force(server: Server, budget: Budget, settled: Settle, result: Result) -> None:
    with httpx2.Client(trust_env=False, timeout=20, headers=server.headers) as client:
        for batch in budget.batches(requests(sorted(server.description["paths"])), BATCH):
            for one in batch:
                result.inputs += 1
                more = {} if one.content_type is None else {"content-type": one.content_type}
                answer = client.request(one.method, server.url + one.path, content=one.body, headers=more)
                _judge(one, answer, result)
            if not settled(batch[-1]):
                return


def _judge(one: Request, answer: httpx2.Response, result: Result) -> None:
    name = f"{one.method} {one.path[:40]}"
    if answer.status_code >= 500:
        result.found("server_error", f"{name}: {answer.status_code} {answer.text[:80]}", one)
    elif answer.status_code >= 400:
        if answer.status_code not in REFUSALS:
            result.found("broken", f"{name}: {answer.status_code}", one)
        if one.method != "HEAD" and not _has_detail(answer):
            result.found("broken", f"{name}: {answer.status_code} without a reason in JSON: {answer.text[:80]}", one)


def _has_detail(answer: httpx2.Response) -> bool:
    if not answer.headers.get("content-type", "").startswith("application/json"):
        return False
    try:
        return "detail" in answer.json()
    except ValueError:
        return False
