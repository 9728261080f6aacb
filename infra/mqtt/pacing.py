"""How long a session waits for an answer, and between two attempts."""

import random

CONNECT_TIMEOUT_S = 5.0
"""For the connection of TCP and TLS."""
ANSWER_TIMEOUT_S = 10.0
"""For what follows, CONNACK and SUBACKs."""
ANSWER_OF_A_CLUSTER_S = 2.0
"""For the same in the first round over several addresses. A cluster that has just lost a node leaves some CONNECTs
unanswered (findings/nats-connect-after-a-node.sh), and answers those that follow a moment later."""
BACKOFF_FIRST_S = 0.25
STABLE_AFTER_S = 30.0
"""A connection that stood for longer ends the count of attempts."""

_MOST_ROUNDS = 16


class Pacing:
    """Counts attempts in a row over all addresses: after each round over them, both times double."""

    def __init__(self, addresses: int, most_s: float) -> None:
        """`most_s`: the longest pause."""
        self._addresses = addresses
        self._most_s = most_s
        self._attempts = 0

    @property
    def answer_s(self) -> float:
        """How long the attempt under way waits for its answer."""
        if self._addresses == 1:
            return ANSWER_TIMEOUT_S
        return min(ANSWER_TIMEOUT_S, ANSWER_OF_A_CLUSTER_S * 2.0**self._rounds)

    @property
    def connect_s(self) -> float:
        """How long it waits for TCP and TLS: a host without power does not refuse."""
        return min(CONNECT_TIMEOUT_S, self.answer_s)

    def ended(self, stood_s: float) -> None:
        """An attempt, or the connection that came of it, ended after this time."""
        self._attempts = 0 if stood_s > STABLE_AFTER_S else self._attempts + 1

    def pause_s(self) -> float:
        """Before the next attempt: short within a round, longer after each, at random."""
        within = self._attempts % self._addresses
        ceiling = min(self._most_s, BACKOFF_FIRST_S * (1 if within else 2**self._rounds))
        return random.uniform(ceiling / 10, ceiling)  # noqa: S311 - jitter is no secret

    @property
    def _rounds(self) -> int:
        return min(self._attempts // self._addresses, _MOST_ROUNDS)
