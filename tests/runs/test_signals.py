"""The first signal is a wish to stop; a second one acts as ever."""

import os
import signal

import pytest

from alexnet_jax.runs.signals import stop_signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_is_read_and_a_second_acts_as_ever(number: signal.Signals) -> None:
    acted = []
    before = signal.signal(number, lambda *_: acted.append(number))
    try:
        with stop_signals() as stop:
            assert stop.name is None
            os.kill(os.getpid(), number)
            assert (stop.name, acted) == (number.name, [])
            os.kill(os.getpid(), number)
            assert acted == [number]
    finally:
        signal.signal(number, before)


def test_without_a_signal_the_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stop_signals() as stop:
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
    assert stop.name is None
