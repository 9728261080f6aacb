"""The screen of `sarvis top`: figures and the newest wakes, from two looks at a bridge. No I/O."""

from collections.abc import Mapping
from math import inf

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sarvis.top.sample import Sample, grown, quantile

NEWEST = 12
HEALTHY = {"acked": "green", "delivered": "green", "pushed": "green"}
FOOT = "q or Ctrl-C ends it"


def away(url: str, why: str) -> RenderableType:
    """Instead of figures, while the bridge does not answer."""
    return Group(
        Text.assemble(("SARVIS  ", "bold"), (f"{url} does not answer", "bold red")),
        Text(why, "red"),
        Text("It is asked again until it answers.", "dim"),
        Text(FOOT, "dim"),
    )


def screen(url: str, now: Sample, before: Sample | None) -> RenderableType:
    """`before`: an earlier look, from which rates are; without one there are totals."""
    state = ("ready", "green") if now.problem is None else (f"not ready: {now.problem}", "bold red")
    table = Table.grid(padding=(0, 2))
    for what, told in rows(now, before):
        table.add_row(Text(what, "bold"), Text(told))
    return Group(
        Text.assemble(("SARVIS  ", "bold"), f"{url}  {now.version}  ", state), Text(), table, Text(), _wakes(now),
        Text(FOOT, "dim"),
    )  # fmt: skip


def rows(now: Sample, before: Sample | None) -> list[tuple[str, str]]:
    """The figures, as name and value."""
    devices = now.by("sarvis_devices", "state")
    deaf = "".join(f", {_number(devices[state])} {state}" for state in ("deaf", "muted") if devices.get(state))
    online, offline = _number(devices.get("online")), _number(devices.get("offline"))
    oldest = max(now.by("sarvis_logouts_oldest_seconds", "presence").values(), default=0.0)
    waiting = now.value("sarvis_logouts_waiting") or 0.0
    peers = now.value("sarvis_peers") or 0.0
    return [
        (
            "devices",
            f"{online} online ({_number(devices.get('active'))} with a session{deaf}), {offline} offline",
        ),
        ("apps", f"{_number(now.value('sarvis_app_connections'))} connected"),
        (
            "sessions",
            f"{_number(now.value('sarvis_sessions'))}, {_number(waiting)} log-outs wait"
            + (f", the oldest for {oldest:.0f} s" if waiting else ""),
        ),
        ("wakes", _counted(now, before, "sarvis_wakes_settled_total", "fate")),
        ("refused", _counted(now, before, "sarvis_wakes_refused_total", "why")),
        ("pushes", _counted(now, before, "sarvis_pushes_total", "result")),
        ("to the socket", _latency(now, before)),
        ("loop late by", f"{(now.value('sarvis_loop_lag_seconds') or 0.0) * 1000:.1f} ms at most in the last minute"),
        ("broker", "connected" if now.value("sarvis_mqtt_connected") else "NOT CONNECTED"),
        ("ledger", "can be written" if now.value("sarvis_ledger_writable") else "CANNOT BE WRITTEN"),
        ("bridge", _process(now, before) + (f", {_number(peers)} other bridges" if peers else "")),
    ]


def _wakes(now: Sample) -> RenderableType:
    if now.wakes is None:
        return Text("No stories of wakes are kept here: bridge.stories_days is 0.", "dim")
    table = Table(box=None, padding=(0, 2, 0, 0))
    for head in ("NEWEST WAKES", "DEVICE", "USER", "BECAME", "MS"):
        table.add_column(head, justify="right" if head == "MS" else "left", no_wrap=True)
    for wake in now.wakes[:NEWEST]:
        colour = HEALTHY.get(wake.state, "yellow")
        table.add_row(
            Text(wake.received_on), Text(wake.device_id), Text(wake.uid), Text(wake.state, colour),
            Text(f"{wake.latency_ms:.1f}"),
        )  # fmt: skip
    return table


def _counted(now: Sample, before: Sample | None, name: str, label: str) -> str:
    counts = now.by(name, label)
    if before is None or now.at <= before.at:
        told = [f"{_number(count)} {what}" for what, count in counts.items() if count]
        return f"{', '.join(told) or 'none'} since it started"
    rates = {what: count / (now.at - before.at) for what, count in grown(counts, before.by(name, label)).items()}
    told = [f"{rate:.1f} {what}" for what, rate in rates.items() if rate]
    more = f": {', '.join(told)}" if told else ""
    return f"{sum(rates.values()):.1f}/s{more}; {_number(sum(counts.values()))} since it started"


def _latency(now: Sample, before: Sample | None) -> str:
    name = "sarvis_wake_to_socket_seconds_bucket"
    counts: Mapping[str, float] = now.by(name, "le")
    if before is not None:
        counts = grown(counts, before.by(name, "le"))
    half, most = quantile(0.5, counts), quantile(0.99, counts)
    return "-" if half is None or most is None else f"p50 {_bound(half)}, p99 {_bound(most)}"


def _bound(seconds: float) -> str:
    return "above 10 s" if seconds == inf else f"up to {seconds * 1000:g} ms"


def _process(now: Sample, before: Sample | None) -> str:
    memory = f"{(now.value('process_resident_memory_bytes') or 0.0) / 2**20:.0f} MiB"
    used = now.value("process_cpu_seconds_total")
    then = None if before is None else before.value("process_cpu_seconds_total")
    if before is None or used is None or then is None or used < then or now.at <= before.at:
        return memory
    return f"{(used - then) / (now.at - before.at):.0%} of a core, {memory}"


def _number(value: float | None) -> str:
    return "0" if value is None else f"{value:,.0f}"
