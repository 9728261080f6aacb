"""`scripts/fuzz`: every attack for long; exits 1 if any found something."""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tests.support.world import EmbeddedBroker
from tools.fuzz import configs, endpoints, frames, messages, packets, readers
from tools.fuzz.house import House, Neighbour, Watch, guarded_bridge, house
from tools.fuzz.record import Budget, Result, cut

Attack = Callable[[Path, Budget], Result]


def _in_house(kind: str, act: Callable[[House, Budget], Result], *, with_edge: bool = False) -> Attack:
    def attack(folder: Path, budget: Budget) -> Result:
        result: Result | None = None
        try:
            with house(folder, kind, with_edge=with_edge) as there:
                result = act(there, budget)
        except AssertionError as error:
            result = _ended_badly(result, error)
        return result

    return attack


def _at_broker(act: Callable[[EmbeddedBroker, Budget], Result]) -> Attack:
    def attack(folder: Path, budget: Budget) -> Result:
        broker = EmbeddedBroker(folder)
        broker.start()
        result: Result | None = None
        try:
            result = act(broker, budget)
        finally:
            try:
                broker.stop()
            except AssertionError as error:
                result = _ended_badly(result, error)
        return result

    return attack


def _ended_badly(result: Result | None, error: AssertionError) -> Result:
    """What its processes said at their end is news only when nothing was seen before."""
    result = result or Result("")
    if not result.crashes:
        result.found("crash", f"at the end: {str(error).strip().splitlines()[-1]}", str(error))
    return result


def _endpoints(there: House, budget: Budget) -> Result:
    result = Result("")
    watch = there.watched()
    url = there.bridge.url if there.edge is None else there.edge.url
    with Neighbour(there.bridge, there.broker) as neighbour:
        endpoints.attack(
            url, budget, lambda given: neighbour.settle(result, given) and watch.look(result, given), result
        )
        result.notes.append(neighbour.note())
    return result


def _guarded(folder: Path, budget: Budget) -> Result:
    """A third of the time without a credential, with a caller's and with an operator's."""
    result = Result("")
    assert budget.seconds is not None
    try:
        with guarded_bridge(folder) as (bridge, operator, caller):
            watch = Watch({"bridge": bridge.sarvis})
            for number, headers in enumerate(({}, caller, operator)):
                third = replace(budget, seconds=budget.seconds / 3, seed=budget.seed + number)
                endpoints.attack(
                    bridge.url, third, lambda given: watch.look(result, given), result, headers, reading=operator
                )
    except AssertionError as error:
        result = _ended_badly(result, error)
    return result


ATTACKS: dict[str, Attack] = {
    "http": _in_house("mosquitto", _endpoints),
    "http-edge": _in_house("mosquitto", _endpoints, with_edge=True),
    "http-guarded": _guarded,
    "messages": _in_house("mosquitto", messages.attack, with_edge=True),
    "messages-embedded": _in_house("embedded", messages.attack, with_edge=True),
    "frames": _in_house("mosquitto", frames.attack),
    "settings": lambda _folder, budget: configs.attack(budget),
    "packets": _at_broker(packets.attack),
    "slow-apps": _in_house("mosquitto", readers.attack_bridge),
    "slow-subscribers": _at_broker(readers.attack_broker),
}


def main() -> int:
    """Run them one after another, a bar for each, then a table and what was found."""
    arguments = _arguments()
    seed = arguments.seed if arguments.seed is not None else int.from_bytes(os.urandom(4))
    names = arguments.only or list(ATTACKS)
    console = Console()
    console.print(f"fuzz: {arguments.minutes:g} minutes, seed {seed}, {', '.join(names)}")
    seconds = arguments.minutes * 60 / len(names)
    results = [_run(name, seconds, seed, console) for name in names]
    _print_table(console, results)
    found = [(result.name, finding) for result in results for finding in result.findings]
    if not found:
        return 0
    folder = Path(tempfile.mkdtemp(prefix="fuzz-findings-"))
    for number, (name, finding) in enumerate(found, start=1):
        path = folder / f"{number}-{name}.txt"
        path.write_text(f"{finding.kind}: {finding.what}\nseed {seed}\n{finding.given}\n", errors="backslashreplace")
        print(f"\n{name}: {finding.kind}: {finding.what}\n  {cut(finding.given)}\n  whole in {path}")
    return 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="for all attacks together")
    parser.add_argument("--seed", type=int, help="the same seed draws the same inputs")
    parser.add_argument("--only", action="append", choices=list(ATTACKS), help="this attack; may be given again")
    return parser.parse_args()


def _run(name: str, seconds: float, seed: int, console: Console) -> Result:
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder, _bar(name, seconds, console) as tell:
        try:
            result = ATTACKS[name](Path(folder), Budget(seconds=seconds, seed=seed, tell=tell))
        except Exception as error:  # noqa: BLE001 - whatever it was, the other attacks go on and it is counted
            console.print_exception()
            result = Result("")
            result.found("broken", f"the harness broke down: {error!r}")
    result.name = name
    return result


@contextmanager
def _bar(name: str, seconds: float, console: Console) -> Iterator[Callable[[int], None]]:
    """A bar over the time, and a count of inputs; gives the function that adds to the count."""
    columns = (TextColumn("{task.description:18}"), BarColumn(), TextColumn("{task.fields[inputs]:>8,} inputs"))
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        task = progress.add_task(name, total=seconds, inputs=0)
        began, inputs = time.monotonic(), 0

        def tell(more: int) -> None:
            nonlocal inputs
            inputs += more
            progress.update(task, completed=min(seconds, time.monotonic() - began), inputs=inputs)

        yield tell
        progress.update(task, completed=seconds)


def _print_table(console: Console, results: list[Result]) -> None:
    table = Table()
    for head in ("attack", "inputs", "crashes", "5xx", "others disturbed", "otherwise wrong"):
        table.add_column(head, justify="left" if head == "attack" else "right")
    for one in results:
        counts = (one.inputs, one.crashes, one.server_errors, one.disturbed, one.broken)
        table.add_row(one.name, *(f"{count:,}" for count in counts))
    console.print(table)
    for one in results:
        for note in one.notes:
            print(f"{one.name}: {note}")


if __name__ == "__main__":
    sys.exit(main())
