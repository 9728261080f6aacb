"""The rounds of several bridges: those of one bridge, with a crowd beside them."""

from dataclasses import dataclass, field

from tools.chaos.cluster.crowd import Crowd
from tools.chaos.cluster.house import ClusterHouse
from tools.chaos.cluster.strike import ClusterStrike
from tools.chaos.plan import Plan
from tools.chaos.rounds import Life, Result


@dataclass
class ClusterLife(Life):
    """Attributes:
    last: what was found when all was over, beside the rounds.
    """

    crowd: Crowd | None = None
    last: list[str] = field(default_factory=list)
    _crowd_is_here: Crowd | None = None

    def settle_in(self) -> None:
        """See Life; the crowd comes, too."""
        super().settle_in()
        assert isinstance(self.house, ClusterHouse)
        self.crowd = self._crowd_is_here = Crowd(self.house, seed=0).__enter__()

    def play(self, plan: Plan) -> Result:
        """See Life."""
        assert self.crowd is not None
        result = super().play(plan)
        result.found += self.crowd.verdicts()
        return result

    def close(self) -> None:
        """See Life."""
        assert self.crowd is not None
        super().close()
        self.last += self.crowd.verdicts(last=True)
        self.leave()

    def leave(self) -> None:
        """The crowd goes, also if the house broke down; a second call does nothing."""
        crowd, self._crowd_is_here = self._crowd_is_here, None
        if crowd is not None:
            crowd.__exit__()

    def summary(self) -> str:
        """What was judged beside the rounds."""
        crowd = self.crowd
        if crowd is None:
            return "beside them no crowd came"
        well = sum(one.rang is not None for one in crowd.canaries)
        return (
            f"beside them {crowd.wakes} wakes, {crowd.triggers} calls over HTTP, {crowd.moves} moves of an app and "
            f"{crowd.log_outs} log-outs with sockets at all bridges, {crowd.http_device.cycles} log-ins on an "
            f"HTTP device; {well} of {len(crowd.canaries)} canaries rang"
        )

    def _strike(self, plan: Plan) -> ClusterStrike:  # type: ignore[override]
        assert isinstance(self.house, ClusterHouse)
        assert self.crowd is not None
        return ClusterStrike(self.house, plan, self.crowd.cut)
