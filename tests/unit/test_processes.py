"""How a process says that it was asked to end."""

import signal

import pytest

from graft.zoo.processes import Ended, asked_to_end, ended_by_signals, telling

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def _as_a_terminal_starts_it():
    """Whoever runs the tests may have them ignored (nohup, a shell for what runs behind it), and
    libraries of other tests listen to them.
    """
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, default)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_with_what_was_told(number):
    before = signal.getsignal(number)
    with pytest.raises(Ended) as raised, ended_by_signals(), telling("kept"):
        signal.raise_signal(number)
    assert (raised.value.signal, raised.value.__notes__) == (number, ["kept"])
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("number", SIGNALS)
def test_an_interrupt_that_a_library_turned_into_another_error_is_one_still(number):
    """As TensorFlow does where the signal comes while it calls Python."""

    def interrupted_library() -> None:
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt:
            raise SystemError("returned a result with an exception set") from None

    with pytest.raises(Ended) as raised, ended_by_signals(), telling("kept"):
        interrupted_library()
    assert (raised.value.signal, raised.value.__notes__) == (number, ["kept"])


def test_an_error_without_a_signal_stays_what_it_is():
    error = ValueError("x")
    with pytest.raises(ValueError, match="x") as raised, ended_by_signals(), telling("kept"):
        raise error
    assert raised.value is error
    assert not hasattr(error, "__notes__")
    assert asked_to_end(error) is None


def test_what_the_caller_listens_to_is_left_alone():
    heard = []
    before = signal.signal(signal.SIGTERM, lambda *told: heard.append(told[0]))
    try:
        with ended_by_signals():
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM]
