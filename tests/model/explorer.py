"""Every history up to a depth: the real rules of both sides, tried step by step, breadth first.

A state is a whole World. States with the same future are merged by `fingerprint`. Run it by hand for more depth:

    python -m tests.model.explorer --depth 5 --faults 2 --seconds 100 [--from PREFIX] [--guards-off GUARD]
"""

import argparse
import logging
import math
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Protocol
from unittest.mock import patch

import structlog

from tests.model.explored import ALPHABETS, BY_NAME, PREFIXES, STEPS, Explored, Step, carry_out
from tests.model.guards import GUARDS
from tests.model.merging import copied, fingerprint

LEAF_EVERY = 16


@dataclass
class Found:
    """Something that must not be, and the shortest way to it."""

    what: str
    trace: tuple[str, ...]
    at_leaf: bool

    def __str__(self) -> str:
        kindly = ", then a kind network" if self.at_leaf else ""
        return f"{self.what}: {' / '.join(self.trace)}{kindly}"


@dataclass
class Summary:
    """What a search did."""

    states: int = 0
    transitions: int = 0
    leaves: int = 0
    depth: int = 0
    """The last one that was finished."""
    seconds: float = 0.0
    found: Found | None = None

    def __str__(self) -> str:
        return (
            f"{self.states} states, {self.transitions} transitions, {self.leaves} leaves, depth {self.depth}, "
            f"{self.seconds:.1f} s: {self.found or 'nothing found'}"
        )


class Progress(Protocol):
    """Is told after each depth."""

    def __call__(self, summary: Summary) -> None:
        """Say it."""
        ...


@dataclass
class _Node:
    world: Explored
    trace: tuple[str, ...]
    faults: int


def explore(
    prefix: Sequence[str],
    *,
    depth: int,
    faults: int,
    seconds: float = math.inf,
    leaf_every: int = LEAF_EVERY,
    steps: Sequence[Step] = STEPS,
    progress: Progress = lambda _summary: None,
) -> Summary:
    """Try all steps after the prefix, breadth first, until something is found or the depth or the time is reached.

    Args:
        faults: the most that may happen in one trace after the prefix.
        leaf_every: at about one in so many new states, chosen by its fingerprint, `agree` is asked; 0 for none.
    """
    search = _Search(steps, depth, faults, leaf_every, time.monotonic() + seconds)
    with counted_ids():
        started = time.monotonic()
        search.run(prefix, progress)
        search.summary.seconds = time.monotonic() - started
    return search.summary


class _Search:
    def __init__(self, steps: Sequence[Step], depth: int, faults: int, leaf_every: int, until: float) -> None:
        self._steps = steps
        self.summary = Summary()
        self._depth = depth
        self._faults = faults
        self._leaf_every = leaf_every
        self._until = until
        self._fewest: dict[bytes, int] = {}

    def run(self, prefix: Sequence[str], progress: Progress) -> None:
        started = time.monotonic()
        world = Explored()
        for length, name in enumerate(prefix, 1):
            try:
                carry_out(world, BY_NAME[name])
            except AssertionError as error:
                self.summary.found = Found(_first_line(error), tuple(prefix[:length]), at_leaf=False)
                return
        self._fewest[fingerprint(world)] = 0
        self.summary.states = 1
        frontier = [_Node(world, tuple(prefix), 0)]
        for depth in range(1, self._depth + 1):
            following: list[_Node] = []
            for node in frontier:
                if not self._expand(node, following, is_last=depth == self._depth):
                    return
            frontier = following
            self.summary.depth = depth
            self.summary.seconds = time.monotonic() - started
            progress(self.summary)

    def _expand(self, node: _Node, following: list[_Node], *, is_last: bool) -> bool:
        """False when the search is over."""
        for step in self._steps:
            faults = node.faults + step.faults
            if faults > self._faults or not step.may(node.world):
                continue
            if time.monotonic() > self._until:
                return False
            child = _Node(copied(node.world, {}), (*node.trace, step.name), faults)
            self.summary.transitions += 1
            try:
                carry_out(child.world, step)
            except AssertionError as error:
                self.summary.found = Found(_first_line(error), child.trace, at_leaf=False)
                return False
            print_ = fingerprint(child.world)
            fewest = self._fewest.get(print_)
            if fewest is not None and fewest <= faults:
                continue
            self._fewest[print_] = faults
            if not is_last:
                following.append(child)
            if fewest is None:
                self.summary.states += 1
                if not self._agrees(child, print_, is_last=is_last):
                    return False
        return True

    def _agrees(self, node: _Node, print_: bytes, *, is_last: bool) -> bool:
        if not self._leaf_every or int.from_bytes(print_[:4], "big") % self._leaf_every:
            return True
        self.summary.leaves += 1
        world = node.world if is_last else copied(node.world, {})
        try:
            world.agree()
        except AssertionError as error:
            self.summary.found = Found(_first_line(error), node.trace, at_leaf=True)
            return False
        return True


def _first_line(error: AssertionError) -> str:
    return str(error).splitlines()[0] if str(error) else "an assertion in the rules"


def replay(trace: Sequence[str], *, kindly: bool = False) -> Explored:
    """The world after these steps; raises AssertionError where something does not hold."""
    with counted_ids():
        world = Explored()
        for name in trace:
            carry_out(world, BY_NAME[name])
        if kindly:
            world.agree()
    return world


@contextmanager
def counted_ids() -> Iterator[None]:
    """No log; ids that are told from names."""
    numbers = count(1)

    def counted() -> str:
        return f"b{next(numbers)}"

    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        with patch("bridge.sessions.ending.new_id", counted), patch("bridge.sessions.load.new_id", counted):
            yield
    finally:
        structlog.configure(**before)


def main(arguments: Sequence[str] | None = None) -> int:
    """1 when something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.model.explorer", description=__doc__)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--faults", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=math.inf, help="for each prefix")
    parser.add_argument("--leaf-every", type=int, default=LEAF_EVERY)
    parser.add_argument("--steps", choices=list(ALPHABETS), default="all")
    parser.add_argument("--from", dest="prefixes", action="append", choices=list(PREFIXES), help="default: all")
    parser.add_argument("--guards-off", action="append", default=[], choices=list(GUARDS))
    options = parser.parse_args(arguments)
    found = False
    with ExitStack() as stack:
        for guard in options.guards_off:
            stack.enter_context(GUARDS[guard]())
        for name in options.prefixes or PREFIXES:
            say(f"from: {name}")
            summary = explore(
                PREFIXES[name],
                depth=options.depth,
                faults=options.faults,
                seconds=options.seconds,
                leaf_every=options.leaf_every,
                steps=ALPHABETS[options.steps],
                progress=lambda so_far: say(f"  {so_far}"),
            )
            say(f"  done: {summary}")
            found = found or summary.found is not None
    return int(found)


def say(line: str) -> None:
    """To the person who waits."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
