"""Drains bridges one after the other: the next one is asked when the last is back and has been ready for a while."""

from collections.abc import Callable, Sequence

from contract.errors import SarvisError

READY_FOR_S = 10.0
"""How long a bridge that is back has been ready before the next one leaves: as long as a wake lives."""
LOOK_EVERY_S = 0.5
BACK_WITHIN_S = 120.0
"""After it has left, at most."""


class Rolling:
    """Acts on bridges by their addresses.

    Args:
        drain: asks one to leave; returns within how many seconds it ends. Raises SarvisError.
        problem: why one is not ready, None if it gives no answer, "" if it is ready.
        now, sleep: the monotonic clock.
        tell: shows a line to the operator.
    """

    def __init__(
        self,
        *,
        drain: Callable[[str], float],
        problem: Callable[[str], str | None],
        now: Callable[[], float],
        sleep: Callable[[float], object],
        tell: Callable[[str], object],
    ) -> None:
        self._drain = drain
        self._problem = problem
        self._now = now
        self._sleep = sleep
        self._tell = tell

    def all(self, urls: Sequence[str]) -> None:
        """Drain each in turn; raises SarvisError before one is asked to leave while another is not ready."""
        for number, url in enumerate(urls):
            self._need_all(urls, number)
            within_s = self._drain(url)
            self._tell(f"{url} leaves, within {within_s:g} s")
            self._wait_until_back(url, within_s, urls[number + 1 :])
            self._tell(f"{url} is back")

    def _need_all(self, urls: Sequence[str], done: int) -> None:
        for url in urls:
            problem = self._problem(url)
            if problem != "":
                so_far = f"{done} of {len(urls)} are drained" if done else "none was asked to leave"
                raise SarvisError(
                    f"the bridge at {url} is not ready ({problem or 'no answer'}), so {so_far}; mend it first"
                )

    def _wait_until_back(self, url: str, within_s: float, rest: Sequence[str]) -> None:
        """It is another process when it was not ready in between."""
        end = self._now() + within_s + BACK_WITHIN_S
        was_away, ready_since = False, None
        while self._now() < end:
            is_ready = self._problem(url) == ""
            was_away = was_away or not is_ready
            if not is_ready or not was_away:
                ready_since = None
            elif ready_since is None:
                ready_since = self._now()
            elif self._now() >= ready_since + READY_FOR_S:
                return
            self._sleep(LOOK_EVERY_S)
        others = f"; then drain the rest: {' '.join(f'--bridge {one}' for one in rest)}" if rest else ""
        raise SarvisError(
            f"the bridge at {url} was not back and ready within {within_s + BACK_WITHIN_S:g} s; start it (a systemd "
            f"unit with Restart=always does){others}"
        )
