from bridge.news_hints import AT_ONCE, PAUSE_S, Pace


def test_after_a_quiet_time_some_hints_go_at_once_and_then_one_in_each_pause() -> None:
    pace = Pace()
    now = 100.0
    for _ in range(3):
        assert [pace.pause_s(now) for _ in range(AT_ONCE - 1)] == [0.0] * (AT_ONCE - 1)
        for _ in range(5):
            pause_s = pace.pause_s(now)
            assert abs(pause_s - PAUSE_S) < 1e-6
            now += pause_s
        now += AT_ONCE * PAUSE_S
