"""Ctrl-C while code that is not Python's may lose it: one waits, a second does not, and handlers come back."""

from __future__ import annotations

import signal
import threading

import pytest

from ocp_nn import Network, TrainingProblem, single_shooting, solve_ipopt
from ocp_nn.base.interrupts import PostponedInterrupts
from ocp_nn.solvers.nlp import ipopt, transcription

NUMBERS = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture
def handlers():
    """Those of before: SIGINT raises, SIGTERM says that it came."""
    came = []
    before = [
        signal.signal(signal.SIGINT, signal.default_int_handler),
        signal.signal(signal.SIGTERM, lambda *_: came.append(1)),
    ]
    expected = [signal.getsignal(number) for number in NUMBERS]
    yield came
    assert [signal.getsignal(number) for number in NUMBERS] == expected
    for number, handler in zip(NUMBERS, before, strict=True):
        signal.signal(number, handler)


def test_the_first_waits_for_the_end(handlers):
    reached = False
    with pytest.raises(KeyboardInterrupt), PostponedInterrupts():
        signal.raise_signal(signal.SIGINT)
        reached = True
    assert reached


def test_or_until_it_is_delivered_once(handlers):
    with PostponedInterrupts() as interrupts:
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            interrupts.deliver()
        interrupts.deliver()


def test_the_second_does_not_wait(handlers):
    with PostponedInterrupts():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_other_handlers_are_called_and_inner_ones_wait_for_outer_ones(handlers):
    with PostponedInterrupts():
        with PostponedInterrupts():
            signal.raise_signal(signal.SIGTERM)
        assert handlers == []
    assert handlers == [1]


def test_what_is_ignored_stays_so(handlers):
    raising = signal.signal(signal.SIGINT, signal.SIG_IGN)
    with PostponedInterrupts():
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        signal.raise_signal(signal.SIGINT)
    signal.signal(signal.SIGINT, raising)


def test_other_threads_leave_signals_alone(handlers):
    seen = []

    def act():
        with PostponedInterrupts():
            seen.extend(signal.getsignal(number) for number in NUMBERS)

    thread = threading.Thread(target=act)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(number) for number in NUMBERS]


@pytest.mark.parametrize(
    ("module", "name"),
    [(transcription, "_batch"), (ipopt, "LagrangianHessian"), (ipopt.ca, "nlpsol"), (ipopt.IterationWatch, "get_n_in")],
)
def test_nothing_that_casadi_does_loses_it(handlers, monkeypatch, capfd, module, name):
    """Where exceptions may be cleared, here all of them, and in the constructors that CasADi calls back from."""
    problem = TrainingProblem(Network.mlp([1, 3, 1]), [[0.0], [0.5], [1.0]], [0.0, 1.0, 0.0])
    original, calls = getattr(module, name), []

    def clearing(*args, **kwargs):
        if not calls:
            calls.append(name)
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:
                calls.append("lost")
        return original(*args, **kwargs)

    monkeypatch.setattr(module, name, clearing)
    with pytest.raises(KeyboardInterrupt):
        solve_ipopt(single_shooting(problem))
    assert calls == [name]
    assert capfd.readouterr() == ("", "")
