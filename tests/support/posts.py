import asyncio

from bridge.storage.records import PendingLogout


class Posts:
    """Posts to HTTP devices that are not sent: each ends when it is told how, or at once.

    Attributes:
        rows: what was to be posted, in its order.
    """

    def __init__(self, *, at_once: bool = False) -> None:
        self.rows: list[PendingLogout] = []
        self._at_once = at_once
        self._under_way: dict[str, asyncio.Future[str | None]] = {}

    async def post(self, row: PendingLogout) -> str | None:
        self.rows.append(row)
        if self._at_once:
            return None
        end = self._under_way[row.device_id] = asyncio.get_running_loop().create_future()
        problem: str | None = await end
        return problem

    def end(self, row: PendingLogout, problem: str | None) -> None:
        """The device obeyed, or there is a problem."""
        self._under_way.pop(row.device_id).set_result(problem)


async def none_is_posted(_row: PendingLogout) -> str | None:
    """Where no device speaks HTTP."""
    raise AssertionError("a log-out was posted")
