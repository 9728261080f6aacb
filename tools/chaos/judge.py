"""What became of one session, by the topics as they passed and the edge's own files; never by the ledger."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise


@dataclass(frozen=True)
class Usable:
    """A time in which the device could be used by the session's user; wall-clock seconds, `until` None: still."""

    since: float
    until: float | None


@dataclass
class Evidence:
    """All that is known of one session when its round is over.

    Attributes:
        journal: the session that the device held, at each of its durable writes, in order.
        ended: the ids that the device's state lists as ended.
        done_acks: (boot, seq) of acks that say that this session's log-out was executed.
        due: when its end was due; None for a session that was not ended.
        usable_until_at_most: when deadline and grace are over, with what faults may add.
        not_before: no log-out may be on the wire before this; None if it may at any time.
        log_outs: when log-outs of it were first seen, on the wire from the bridge.
        told: a report that lists it as ended reached the bridge.
        sent_after_told: the bridge went on sending log-outs long after that.
    """

    session_id: str
    journal: Sequence[str | None]
    ended: Sequence[str]
    usable: Sequence[Usable]
    done_acks: set[tuple[int, int]] = field(default_factory=set)
    due: float | None = None
    usable_until_at_most: float = 0.0
    not_before: float | None = None
    log_outs: Sequence[float] = ()
    told: bool = False
    sent_after_told: bool = False


def executions(session_id: str, journal: Sequence[str | None]) -> int:
    """How often the device went from holding this session to not holding it."""
    return sum(before == session_id and after != session_id for before, after in pairwise(journal))


def verdicts(evidence: Evidence) -> list[str]:
    """What is wrong: lost, false, late, duplicate, each with why; nothing for a session that went as it should."""
    found = []
    times = executions(evidence.session_id, evidence.journal)
    holds = bool(evidence.journal) and evidence.journal[-1] == evidence.session_id
    ran = evidence.session_id in evidence.journal
    if evidence.due is None:
        if times or evidence.session_id in evidence.ended:
            found.append("false: a session ended that should not")
    else:
        if ran and (holds or not times):
            found.append("lost: the device still holds the session")
        if not evidence.told:
            found.append("lost: the bridge was never told that it ended")
        if evidence.sent_after_told:
            found.append("lost: the log-out was confirmed, and is still sent")
        found += [
            f"late: usable {(usable.until or 0) - evidence.usable_until_at_most:.1f} s beyond deadline and grace"
            for usable in evidence.usable
            if usable.until is None or usable.until > evidence.usable_until_at_most
        ]
    if evidence.not_before is not None:
        early = [at for at in evidence.log_outs if at < evidence.not_before]
        found += [f"false: logged out {evidence.not_before - at:.2f} s too early" for at in early[:1]]
    if times > 1 or len(evidence.done_acks) > 1:
        found.append(f"duplicate: executed {times} times, {len(evidence.done_acks)} times reported as done")
    return found
