"""`scripts/soak`: hours of audio through a whole node; exits 1 if an event differs from the twin's or memory grows."""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from rich.progress import Progress

from tests.support.world import BROKERS
from tools.soak import twin
from tools.soak.house import House
from tools.soak.programme import Programme, frames, voices
from tools.soak.verdict import judge


def main() -> int:
    """Play, compare, print."""
    chosen = _arguments()
    heard = voices(chosen.cache, ("espeak", "open_jtalk"), chosen.voices)
    programme = Programme(heard, round(chosen.hours * 60), chosen.words, chosen.losses, chosen.seed)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder, House(Path(folder), chosen.broker) as house:
        with Progress() as bar:
            task = bar.add_task("hours heard", total=programme.minutes * 60.0)
            house.play(programme, chosen.restarts, lambda seconds: bar.update(task, completed=seconds))
        took_s = time.monotonic() - began
        wakes, fates, rung = house.wakes(), house.fates(), house.rung()
        silent, life = house.silent_frames, house.life
    print("now the twin ...", file=sys.stderr, flush=True)
    verdict = judge(wakes, twin.triggers(frames(programme, silent)), fates, rung, life.memory_mib)
    numbers = life.numbers
    found = {
        "hours": chosen.hours,
        "times_real_time": round(programme.minutes * 60 / took_s, 1),
        "words_spoken": chosen.words,
        "wakes": verdict.wakes,
        "broker_restarts": chosen.restarts,
        "reconnects": int(numbers["sarvis_mqtt_reconnects_total"]),
        "microphone_losses": int(numbers["sarvis_edge_microphone_returns_total"]),
        "gaps": int(numbers["sarvis_edge_xruns_total"]),
        "lost_s": round(numbers["sarvis_edge_lost_seconds_total"], 2),
        "memory_mib": [round(verdict.early_mib, 1), round(verdict.late_mib, 1)],
        "files": [life.files[len(life.files) // 4], life.files[-1]],
        "threads": [life.threads[len(life.threads) // 4], life.threads[-1]],
        "wrong": verdict.wrong,
    }
    print(json.dumps(found, ensure_ascii=False, indent=2))
    return 1 if verdict.wrong else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    parser.add_argument("--hours", type=float, default=8.0, help="of audio")
    parser.add_argument("--words", type=int, default=240, help="how often the wake word is said in it")
    parser.add_argument("--restarts", type=int, default=12, help="how often the broker is killed")
    parser.add_argument("--losses", type=int, default=12, help="how often the microphone is unplugged, and has a gap")
    parser.add_argument(
        "--voices", type=float, default=1.0, help="share of the voices that speak; fewer are sooner made"
    )
    parser.add_argument("--broker", choices=list(BROKERS), default="mosquitto")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--cache", type=Path, default=Path("~/.cache/sarvis/soak").expanduser(), help="for spoken words"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
