"""Any changes of a ledger with few devices, users and sessions, so that they meet."""

from dataclasses import replace

from hypothesis import strategies as st

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

NUMBERS = st.integers(0, 2)
UIDS = st.integers(0, 1).map("u{}".format)
WAKES = st.integers(0, 30).map("w{}".format)
DEVICES = NUMBERS.map("d{}".format)
# What belongs together is made from one number: the rules never change whose session it is.
SESSIONS = st.integers(0, 5).map(lambda n: Session(f"s{n}", f"d{n % 3}", f"u{n % 2}", n))
CHANGES: st.SearchStrategy[Change] = st.one_of(
    SESSIONS,
    SESSIONS.map(lambda session: replace(session, ended="app")),
    st.builds(Device, DEVICES, st.none() | st.just("i"), NUMBERS, NUMBERS, NUMBERS, st.none() | UIDS, st.none()),
    st.builds(
        lambda s, n: PendingLogout(f"c{n}", s.session_id, s.device_id, s.uid, n, "app", "then", float(n), None),
        SESSIONS,
        NUMBERS,
    ),
    SESSIONS.map(lambda session: Settled(session.device_id, session.session_id)),
    st.builds(DurableDeadline, UIDS, st.floats(0, 1e9), st.booleans()),
    st.builds(Departed, UIDS, st.floats(0, 1e9), st.just("app")),
    st.floats(0, 1e9).map(ServiceSeconds),
    st.builds(Missed, WAKES, UIDS, st.just("wake_up"), DEVICES, st.just("then")),
    WAKES.map(MissedTold),
    st.builds(PushSubscription, UIDS, NUMBERS.map("https://x/{}".format), st.just("p"), st.just("a")),
    st.builds(Unsubscribed, UIDS, st.none() | NUMBERS.map("https://x/{}".format)),
    st.builds(Audit, st.just("then"), st.just("opened"), st.just("s"), DEVICES, UIDS, st.just("app")),
)
