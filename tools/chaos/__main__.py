"""`scripts/chaos`: many rounds against real processes; exits 1 if any session was lost, false, late or duplicate."""

import argparse
import os
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from queue import Queue

from tests.support.world import BROKERS
from tools.chaos.cluster import judge
from tools.chaos.cluster.guards import GUARDS
from tools.chaos.cluster.house import NAMES, ClusterHouse
from tools.chaos.cluster.rounds import ClusterLife
from tools.chaos.house import House
from tools.chaos.plan import CLUSTER_FAULTS, FAULTS, PHASES, Plans
from tools.chaos.rounds import Life, Result

KINDS = ("lost", "false", "late", "duplicate")
CLUSTER = "cluster"


def main() -> int:
    """Play, print a line per round, a table fault x phase, and the sum."""
    arguments = _arguments()
    seed = arguments.seed if arguments.seed is not None else int.from_bytes(os.urandom(4))
    brokers = [CLUSTER] if arguments.cluster else list(BROKERS) if arguments.broker == "both" else [arguments.broker]
    print(f"chaos: {arguments.rounds} rounds, seed {seed}, brokers {', '.join(brokers)}", flush=True)
    plans = Plans(arguments.rounds, seed, CLUSTER_FAULTS if arguments.cluster else FAULTS)
    results: Queue[tuple[str, Result | None, Life | None]] = Queue()
    count = arguments.streams or (1 if arguments.cluster else 2)
    streams = [brokers[number % len(brokers)] for number in range(max(count, len(brokers)))]
    threads = [
        threading.Thread(target=_stream, args=(arguments, broker, plans, results), name=broker) for broker in streams
    ]
    for thread in threads:
        thread.start()
    played, lives, failed = _report(results, len(threads), arguments.rounds)
    for thread in threads:
        thread.join()
    return _sum(plans, played, lives, failed)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=__doc__)
    parser.add_argument("--rounds", type=int, default=50, help="rounds whose fault hit between due and ack")
    parser.add_argument("--seed", type=int, help="the same seed plans the same rounds")
    parser.add_argument("--broker", choices=[*BROKERS, "both"], default="both")
    parser.add_argument("--streams", type=int, help="houses attacked at the same time; 2, of a cluster 1")
    parser.add_argument("--cluster", action="store_true", help="several bridges, PostgreSQL and three NATS nodes")
    parser.add_argument("--bridges", type=int, choices=range(2, len(NAMES) + 1), default=2, help="of a cluster")
    parser.add_argument("--nodes", type=int, choices=(1, 3), default=3, help="of NATS; 1: the embedded broker instead")
    parser.add_argument("--without", choices=GUARDS, help="take a guard of the cluster's bridges out")
    return parser.parse_args()


def _life(arguments: argparse.Namespace, broker: str, folder: Path, stack: ExitStack) -> Life:
    if broker != CLUSTER:
        return Life(stack.enter_context(House(folder, broker)))
    house = ClusterHouse(folder, arguments.bridges, arguments.nodes, arguments.without)
    life = ClusterLife(stack.enter_context(house))
    stack.callback(life.leave)
    return life


def _stream(
    arguments: argparse.Namespace,
    broker: str,
    plans: Plans,
    results: "Queue[tuple[str, Result | None, Life | None]]",
) -> None:
    """One house from its first round to its last; a house that breaks down is a failure of the harness, and counted."""
    life: Life | None = None
    try:
        with tempfile.TemporaryDirectory(prefix="chaos-") as folder, ExitStack() as stack:
            life = _life(arguments, broker, Path(folder), stack)
            life.settle_in()
            while (plan := plans.next()) is not None:
                result = life.play(plan)
                plans.done(plan, result.landed)
                results.put((broker, result, None))
            life.close()
    except Exception:  # noqa: BLE001 - whatever it was, the other houses go on and it is counted
        traceback.print_exc()
        results.put((f"{broker} broke down", None, None))
    finally:
        results.put((broker, None, life))


def _report(
    results: "Queue[tuple[str, Result | None, Life | None]]", streams: int, rounds: int
) -> tuple[list[tuple[str, Result]], list[Life], int]:
    played: list[tuple[str, Result]] = []
    lives: list[Life] = []
    running, failed, began = streams, 0, time.monotonic()
    while running:
        broker, result, life = results.get()
        if result is not None:
            played.append((broker, result))
            landed = sum(one.landed is not None for _, one in played)
            plan = result.plan
            where = result.landed or "missed"
            verdict = "; ".join(result.found) or "ok"
            minutes = (time.monotonic() - began) / 60
            print(
                f"[{landed:3}/{rounds} {minutes:5.1f} min] {broker:9} {plan.cause:8} {plan.fault:13} at {where:7} "
                f"{result.took_s:5.1f} s  {verdict}",
                flush=True,
            )
        elif broker.endswith("broke down"):
            failed += 1
        else:
            running -= 1
            if life is not None:
                lives.append(life)
    return played, lives, failed


def _sum(plans: Plans, played: list[tuple[str, Result]], lives: list[Life], failed: int) -> int:
    print(f"\n{'fault':14}" + "".join(f"{phase:>9}" for phase in PHASES))
    for fault in plans.faults:
        print(f"{fault:14}" + "".join(f"{plans.hits[fault, phase]:>9}" for phase in PHASES))
    brokers = Counter(broker for broker, result in played if result.landed is not None)
    causes = Counter(result.plan.cause for _, result in played if result.landed is not None)
    print("\n" + ", ".join(f"{broker} {count}" for broker, count in brokers.items()))
    print(", ".join(f"{cause} {count}" for cause, count in causes.items()))
    missed = len(played) - plans.hits.total()
    lapses, starved = sum(life.lapses for life in lives), sum(life.starved for life in lives)
    print(f"{missed} more rounds whose fault missed, judged all the same")
    print(
        f"the bystander lapsed {lapses} times and came back; {starved} times the machine kept its beats from the bridge"
    )
    clusters = [life for life in lives if isinstance(life, ClusterLife)]
    for life in clusters:
        print("\n".join([life.summary(), *(f"after the last round: {text}" for text in life.last)]))
    texts = [text for _, result in played for text in result.found] + [text for life in clusters for text in life.last]
    found = Counter(text.split(":")[0] for text in texts)
    kinds = (*KINDS, *judge.KINDS) if clusters else KINDS
    sums = " ".join(f"{kind}={found[kind]}" for kind in kinds)
    if failed:
        print(f"{failed} houses broke down: see above")
    print(f"rounds={plans.hits.total()} {sums}")
    return 1 if found or failed else 0


if __name__ == "__main__":
    sys.exit(main())
