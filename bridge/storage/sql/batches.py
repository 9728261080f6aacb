"""Changes in as few statements as leave the same rows. No I/O."""

from collections.abc import Iterable, Sequence

from bridge.storage.records import (
    Audit,
    Change,
    Departed,
    Device,
    DurableDeadline,
    Missed,
    MissedTold,
    PendingLogout,
    PushSubscription,
    ServiceSeconds,
    Session,
    Settled,
    Unsubscribed,
)

_PHONES = "phones"
"""A phone changes its user: all changes of subscriptions keep their order."""
_MISSED = "missed wakes"
"""Of too many, the oldest that are there are dropped."""


def batches_of(changes: Iterable[Change]) -> list[Sequence[Change]]:
    """Rows of one kind together, each batch one statement; those of a kind keep their order.

    A change passes others only if they touch other rows: of one thing (a device's sessions, a log-out, a user's
    deadline) all changes happen in the order in which they were given.
    """
    batches: list[list[Change]] = []
    newest: dict[object, int] = {}
    touched: dict[object, int] = {}
    for change in changes:
        kind, about = _kind_and_subject(change)
        at = newest.get(kind, -1)
        if at < touched.get(about, 0):
            at = newest[kind] = len(batches)
            batches.append([])
        batches[at].append(change)
        touched[about] = at
    return [_last_of_each(batch) if isinstance(batch[0], Device) else batch for batch in batches]


def _kind_and_subject(change: Change) -> tuple[object, object]:  # noqa: PLR0911 - one line for each kind of row
    """What is written by one statement, and what must keep its order."""
    match change:
        case Audit() | ServiceSeconds():
            return type(change), type(change)
        case Device(device_id=device_id):
            return Device, (Device, device_id)
        case Session(device_id=device_id, ended=ended):
            return (Session, ended), (Session, device_id)
        case PendingLogout() | Settled():
            return type(change), (Settled, change.device_id, change.session_id)
        case DurableDeadline() | Departed():
            return type(change), (Departed, change.uid)
        case Missed() | MissedTold():
            return type(change), _MISSED
        case PushSubscription():
            return PushSubscription, _PHONES
        case Unsubscribed(endpoint=endpoint):
            return (Unsubscribed, endpoint is None), _PHONES


def _last_of_each(devices: Iterable[Change]) -> list[Change]:
    """A device's row is written as a whole: the last one counts."""
    return list({change.device_id: change for change in devices if isinstance(change, Device)}.values())
