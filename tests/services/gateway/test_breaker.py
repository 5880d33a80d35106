from services.gateway.breaker import FAILURES, FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, Breaker


def test_it_opens_after_failures_in_a_row_and_not_when_some_succeed_in_between() -> None:
    breaker = Breaker()
    for _ in range(10):
        assert not breaker.failed(0.0)
        breaker.succeeded()
    assert [breaker.failed(0.0) for _ in range(FAILURES)] == [False] * (FAILURES - 1) + [True]
    assert breaker.is_open


def test_one_reason_may_be_enough() -> None:
    breaker = Breaker()
    assert breaker.failed(0.0, at_once=True)
    assert breaker.is_open


def test_the_pause_doubles_up_to_a_limit_each_time_it_opens_anew_and_stragglers_do_not_prolong_it() -> None:
    breaker, moment, pauses = Breaker(), 100.0, []
    for _ in range(8):
        while not breaker.is_open:
            breaker.failed(moment)
        breaker.failed(moment + 0.01)
        pauses.append(breaker.until - moment)
        moment = breaker.until
        assert breaker.probed()
        assert not breaker.is_open
    assert pauses[:3] == [FIRST_PAUSE_SECONDS, 2 * FIRST_PAUSE_SECONDS, 4 * FIRST_PAUSE_SECONDS]
    assert pauses[-1] == LONGEST_PAUSE_SECONDS


def test_after_a_probe_one_failure_opens_it_again_and_one_success_forgets_everything() -> None:
    breaker = Breaker()
    breaker.failed(0.0, at_once=True)
    breaker.probed()
    assert breaker.failed(1.0)
    assert breaker.succeeded()
    assert not breaker.failed(2.0)
    assert not breaker.is_open
