"""Ctrl-C while code that is not Python's may lose it: one waits, a second does not, and handlers come back."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from ocp_nn import Network, Options, Status, TrainingProblem, single_shooting, solve, solve_ipopt
from ocp_nn.base.interrupts import PostponedInterrupts, RepeatedInterrupts
from ocp_nn.cli import identify, main
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


def losing(name):
    """A function of the module of this name that loses exceptions."""
    code = "def lose(act):\n    try:\n        act()\n    except BaseException:\n        pass"
    scope = {"__name__": name}
    exec(code, scope)
    return scope["lose"]


@pytest.mark.parametrize("name", ["casadi", "casadi.casadi", "joblib._store_backends", "joblib.func_inspect"])
@pytest.mark.parametrize("number", NUMBERS)
def test_what_is_lost_comes_again(handlers, name, number):
    raised, deadline = False, time.monotonic() + 60
    with RepeatedInterrupts():
        try:
            losing(name)(lambda: signal.raise_signal(number))
            assert not handlers
            while not handlers and time.monotonic() < deadline:
                time.sleep(0.001)
        except KeyboardInterrupt:
            raised = True
    assert (raised, handlers) == ((True, []) if number == signal.SIGINT else (False, [1]))


@pytest.mark.parametrize("name", ["joblib", "joblib.memory", "casadi_of_mine", "numpy"])
def test_elsewhere_it_is_raised_at_once(handlers, name):
    came = []

    def act():
        signal.raise_signal(signal.SIGTERM)
        came.extend(handlers)

    with RepeatedInterrupts():
        losing(name)(act)
    assert came == [1]


def test_a_solve_ends_although_a_stage_loses_the_first(handlers, monkeypatch):
    problem = TrainingProblem(Network.mlp([1, 3, 1]), [[0.0], [0.5], [1.0]], [0.0, 1.0, 0.0], weight_decay=1e-3)
    once = iter([lambda: signal.raise_signal(signal.SIGINT)])

    def callback(iterate):
        losing("casadi")(next(once, lambda: None))
        time.sleep(0.01)

    options = Options(max_outer=1000, tolerance=1e-300)
    assert solve(problem, options=options, callback=callback).status is Status.INTERRUPTED


def test_commands_end_although_the_first_is_lost(handlers, monkeypatch, capsys):
    def load(*args, **kwargs):
        losing("casadi")(lambda: signal.raise_signal(signal.SIGINT))
        time.sleep(5)
        pytest.fail("it was lost")

    monkeypatch.setattr(identify, "load_records", load)
    assert main(["identify", "duffing"]) == 130
    assert capsys.readouterr().err == "ocp-nn: interrupted\n"


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
