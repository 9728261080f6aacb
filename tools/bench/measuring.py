"""One system in one round: all numbers of its rows."""

import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tools.bench.accounts import Account, Row, per_event_us, quantile
from tools.bench.apps import Lost
from tools.bench.load import Load, Window
from tools.bench.processes import Cores, cpu_s, on_core, resident_kib, settle, syn_dropped
from tools.bench.report import Results
from tools.bench.stall import measure_stall
from tools.bench.systems import Running, System, mosquitto

PACED_PER_S = 500.0
PACED_AT_MOST = 2_000
HTTP_CONNECTIONS = 8
WARM_APPS = 20
STALL_SYSTEMS = ("sarvis", "guide")


@dataclass(frozen=True)
class Plan:
    """How much of everything; no storm and no look for stalls with 0 apps."""

    apps: int
    events: int
    outstanding: int
    rounds: int
    storm: int
    stall_apps: int
    stall_s: float


@dataclass(frozen=True)
class Measured:
    """What came of one window."""

    account: Account
    took_s: float
    cpu_us: float
    generator_share: float
    load_share: float
    faults: list[str]


class Watch:
    """A system that serves, and its broker, seen from outside."""

    def __init__(self, system: System, running: Running, broker: tuple[int, int]) -> None:
        self.pid = running.process.pid
        self._system = system
        self._running = running
        self._broker_pid, self._mqtt_port = broker

    def load(self, apps: int) -> Load:
        """Apps for this system, none of which is there yet."""
        return Load(
            self._running.port,
            self._running.mqtt_port or self._mqtt_port,
            apps=apps,
            kind=self._system.kind,
            v2=self._system.v2,
            tokens=self._running.tokens,
            api_key=self._running.api_key,
        )

    def warm_up(self, apps: int, events: int) -> None:
        """A little of everything, not measured."""
        with self.load(min(WARM_APPS, apps)) as load:
            load.come(load.apps)
            load.wakes(1, min(200, events), load.apps)()
            load.heartbeats(min(200, events), load.apps)()
            load.rest(0.5)

    def coming(self, load: Load) -> Row:
        """All apps come at once."""
        before_s, ours, dropped = cpu_s(self.pid), time.process_time(), syn_dropped()
        took_s = load.come(load.apps)
        ours = time.process_time() - ours
        return {
            "connects_per_s": load.apps / took_s,
            "cpu_us_per_connect": per_event_us(cpu_s(self.pid) - before_s, load.apps),
            "generator_share": ours / took_s,
            "syn_dropped": float(syn_dropped() - dropped),
        }

    def settled(self, load: Load) -> Row:
        """All apps come at once and then do nothing: what it took, and how much memory they need."""
        load.rest(0.5)
        before_kib = resident_kib(self.pid)
        came = self.coming(load)
        load.rest(0.5)
        return {
            "kib_per_connection": (resident_kib(self.pid) - before_kib) / load.apps,
            "connects_per_s": came["connects_per_s"],
            "cpu_us_per_connect": came["cpu_us_per_connect"],
            "connects_generator_share": came["generator_share"],
            "connects_syn_dropped": came["syn_dropped"],
        }

    def window(self, load: Load, act: Window, each: Sequence[str] = ()) -> Measured:
        """What was made ready is sent, until all has come of it; `each`: the outcomes of a wake."""
        began, ours = time.monotonic(), time.process_time()
        system, broker = cpu_s(self.pid), cpu_s(self._broker_pid)
        account = act()
        took = time.monotonic() - began
        ours, broker = time.process_time() - ours, cpu_s(self._broker_pid) - broker
        told = load.outcomes(account.sent * len(each))
        system = cpu_s(self.pid) - system
        return Measured(
            account,
            took,
            per_event_us(system, account.received),
            ours / took,
            (ours + broker) / took,
            account.faults(told, each),
        )

    def ledger_faults(self, apps: int) -> list[str]:
        """What is wrong with the rows of a ledger when this many users came, and none was logged out."""
        if self._running.ledger is None:
            return []
        with closing(sqlite3.connect(f"file:{self._running.ledger}?mode=ro", uri=True)) as ledger:
            ((promised,),) = ledger.execute("SELECT count(*) FROM promises")
            ((running, ended),) = ledger.execute("SELECT count(*), count(ended) FROM sessions")
            ((waiting,),) = ledger.execute("SELECT count(*) FROM outbox")
        logged_in = apps if self._running.tokens else 0
        found = {"promises": promised, "sessions": running, "ended sessions": ended, "log-outs": waiting}
        wanted = {"promises": apps, "sessions": logged_in, "ended sessions": 0, "log-outs": 0}
        return [f"ledger: {count} {what}, not {wanted[what]}" for what, count in found.items() if count != wanted[what]]


@contextmanager
def watching(system: System, apps: int, cores: Cores) -> Iterator[Watch]:
    """The system on a core of its own, for this many apps, with a broker.

    Raises NotHereError, AssertionError when it does not start, and Lost, with its log, when a connection breaks.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as name, mosquitto(Path(name), cores.load) as broker:
        with on_core(cores.system):
            running = system.start(Path(name), broker[1], apps)
        try:
            yield Watch(system, running, broker)
        except (Lost, OSError) as lost:
            raise Lost(f"{lost}\n{running.process.log[-3000:]}") from lost
        finally:
            running.process.stop()


def measure(system: System, plan: Plan, cores: Cores, results: Results) -> None:
    """One round; a row for each QoS. Raises NotHereError, and Lost when a server ends what should have stood."""
    with watching(system, max(plan.apps, plan.storm, plan.stall_apps), cores) as watch:
        watch.warm_up(plan.apps, plan.events)
        with watch.load(plan.apps) as load:
            common, also = _common(watch, load, system, plan)
            rows = {qos: wakes(watch, load, system.outcomes, qos, plan.events, plan.outstanding) for qos in (0, 1)}
        more, faults = _storm(watch, plan)
        if system.name in STALL_SYSTEMS and plan.stall_apps:
            settle(watch.pid)
            with watch.load(plan.stall_apps) as load:
                load.come(plan.stall_apps)
                settle(watch.pid)
                more |= measure_stall(load, watch.pid, plan.stall_s)
        faults += watch.ledger_faults(max(plan.apps, plan.storm, plan.stall_apps))
        for qos, (row, windows) in rows.items():
            _add(results, system.name, qos, {**row, **common, **more}, {**windows, **also}, faults)


def _common(watch: Watch, load: Load, system: System, plan: Plan) -> tuple[Row, dict[str, Measured]]:
    common = watch.settled(load)
    outstanding = min(plan.outstanding, plan.apps)
    load.heartbeats(min(plan.apps, plan.events), outstanding)()
    beats = watch.window(load, load.heartbeats(plan.events // 2, outstanding))
    common |= {"cpu_us_per_heartbeat": beats.cpu_us, "cpu_us_per_http": None}
    also = {"heartbeats": beats}
    if system.http:
        posts = watch.window(load, load.triggers(plan.events // 4, min(HTTP_CONNECTIONS, plan.apps)))
        common["cpu_us_per_http"] = posts.cpu_us
        also["HTTP"] = posts
    return common, also


def wakes(
    watch: Watch, load: Load, each: Sequence[str], qos: int, events: int, outstanding: int
) -> tuple[Row, dict[str, Measured]]:
    """Wakes at full rate and paced; the numbers and the windows by name."""

    def window(act: Callable[[], Account]) -> Measured:
        return watch.window(load, act, each)

    first = window(load.wakes(qos, max(events // 5, 1), outstanding))
    full = window(load.wakes(qos, events, outstanding))
    paced = window(load.paced(qos, min(events, PACED_AT_MOST), PACED_PER_S))
    row: Row = {
        "cpu_us_per_event": full.cpu_us,
        "events_per_s": full.account.received / full.took_s,
        "p50_us": quantile(paced.account.latencies, 0.5) * 1e6,
        "p99_us": quantile(paced.account.latencies, 0.99) * 1e6,
        "generator_us_per_event": per_event_us(full.generator_share * full.took_s, full.account.received),
        "generator_share": full.generator_share,
        "load_share": full.load_share,
    }
    return row, {"warming up": first, "at full rate": full, "paced": paced}


def _storm(watch: Watch, plan: Plan) -> tuple[Row, list[str]]:
    """All apps are there, are gone, and come again at once while nothing else runs; none may be refused."""
    if not plan.storm:
        return {}, []
    settle(watch.pid)
    with watch.load(plan.storm) as load:
        try:
            first = watch.coming(load)
            load.leave()
            settle(watch.pid)
            again = watch.coming(load)
        except (Lost, OSError) as lost:
            return {}, [f"storm: {lost}"]
    return {
        "storm_per_s": again["connects_per_s"],
        "storm_cpu_us_per_connect": again["cpu_us_per_connect"],
        "storm_generator_share": again["generator_share"],
        "storm_syn_dropped": again["syn_dropped"],
        "storm_first_per_s": first["connects_per_s"],
    }, []


def faults_of(windows: Mapping[str, Measured]) -> list[str]:
    """What is wrong, by the window in which it was."""
    return [f"{name}: {fault}" for name, window in windows.items() for fault in window.faults]


def _add(
    results: Results, name: str, qos: int, row: Row, windows: Mapping[str, Measured], faults: Sequence[str]
) -> None:
    sent = sum(window.account.sent for window in windows.values())
    received = sum(window.account.received for window in windows.values())
    results.add(name, qos, row, sent, received, [*faults_of(windows), *faults])
