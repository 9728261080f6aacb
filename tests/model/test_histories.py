"""Random histories of one device, two users, a bridge and an unreliable network against a plain model.

HISTORIES=5000 in the environment runs that many.
"""

import os
from random import Random

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.model.world import World

pytestmark = pytest.mark.slow

USERS = st.sampled_from(["alice", "alice", "bob"])
HISTORIES = int(os.environ.get("HISTORIES", "400"))


class Histories(RuleBasedStateMachine):
    """Each step is one thing that people, machines or the network do."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()

    @initialize(user=USERS)
    def begin(self, user: str) -> None:
        self.world.connect(user)

    @rule(user=USERS)
    def connect(self, user: str) -> None:
        self.world.connect(user)

    @rule(user=USERS)
    def beat(self, user: str) -> None:
        self.world.beat(user)

    @rule(user=USERS)
    def log_in(self, user: str) -> None:
        self.world.log_in(user)

    @rule(user=USERS)
    def log_out(self, user: str) -> None:
        self.world.log_out(user)

    @rule(user=USERS)
    def log_out_beside_the_device(self, user: str) -> None:
        self.world.log_out_beside_the_device(user)

    @rule(seconds=st.sampled_from([1, 2, 5, 15]))
    def time_passes(self, seconds: int) -> None:
        self.world.time_passes(seconds)

    @rule(seconds=st.integers(1, 30))
    def calm_seconds(self, seconds: int) -> None:
        for _ in range(seconds):
            self.world.a_calm_second()

    @rule()
    def a_long_silence(self) -> None:
        self.world.a_long_silence()

    @rule(chance=st.randoms(use_true_random=False), number=st.integers(1, 4))
    def messages_go_up(self, chance: Random, number: int) -> None:
        for _ in range(number):
            self.world.a_message_passes(self.world.up, self.world.at_bridge, chance)

    @rule(chance=st.randoms(use_true_random=False), number=st.integers(1, 4))
    def messages_go_down(self, chance: Random, number: int) -> None:
        for _ in range(number):
            self.world.a_message_passes(self.world.down, self.world.at_edge, chance)

    @rule()
    def all_messages_are_lost(self) -> None:
        self.world.up.clear()
        self.world.down.clear()

    @rule()
    def edge_is_killed(self) -> None:
        self.world.edge_restarts()

    @rule()
    def edge_is_wiped(self) -> None:
        self.world.edge_is_wiped()

    @rule()
    def edge_is_copied(self) -> None:
        self.world.edge_is_copied()

    @rule()
    def card_is_restored(self) -> None:
        self.world.card_is_restored()

    @rule()
    def machine_is_set_back(self) -> None:
        self.world.machine_is_set_back()

    @rule(full=st.booleans())
    def edge_disk_is_full(self, full: bool) -> None:
        self.world.edge_disk_is_full = full

    @rule(after_s=st.sampled_from([0, 0, 1, 30, 100]))
    def bridge_is_killed(self, after_s: int) -> None:
        self.world.bridge_restarts(after_s=after_s)

    @rule(where=st.sampled_from(["commit", "publish"]))
    def bridge_will_be_killed_at(self, where: str) -> None:
        self.world.kill_bridge_at = where

    @rule(seconds=st.sampled_from([3, 30, 200]))
    def bridge_sleeps(self, seconds: int) -> None:
        self.world.bridge_sleeps(seconds)

    @rule(fails=st.booleans())
    def ledger_disk_is_full(self, fails: bool) -> None:
        self.world.store.fail = "disk full" if fails else None

    @rule()
    def back_up(self) -> None:
        self.world.back_up()

    @rule()
    def restore(self) -> None:
        self.world.restore()

    @invariant()
    def guarantees_hold(self) -> None:
        self.world.check()

    def teardown(self) -> None:
        self.world.agree()


TestHistories = Histories.TestCase
TestHistories.settings = settings(
    max_examples=HISTORIES,
    stateful_step_count=50,
    deadline=None,
    print_blob=True,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
)
