"""A solve leaves BLAS the number of threads that it found, however solves nest, overlap, fail, fork or are stopped."""

from __future__ import annotations

import linecache
import os
import signal
import sys
import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

import ocp_nn
from ocp_nn import Network, Options, TrainingProblem
from ocp_nn.problem import blas
from ocp_nn.problem.blas import limited_blas, one_blas_thread

FOUND = 3  # a number that neither the machine nor the solver would choose


def blas_threads() -> set[int]:
    return {entry["num_threads"] for entry in threadpool_info() if entry["user_api"] == "blas"}


@pytest.fixture(autouse=True)
def found():
    """The user's own limit stands before and after every test here."""
    with threadpool_limits(FOUND, user_api="blas"):
        assert blas_threads() == {FOUND}
        yield
        assert blas_threads() == {FOUND}
        assert not blas._in_force


def sine() -> TrainingProblem:
    x = np.linspace(-2, 2, 30)[:, None]
    return TrainingProblem(Network.mlp([1, 4, 1]), x, np.sin(x), 1e-2)


def test_one_after_the_other_and_nested():
    for _ in range(2):
        with one_blas_thread():
            assert blas_threads() == {1}
            with one_blas_thread():
                assert blas_threads() == {1}
            assert blas_threads() == {1}
        assert blas_threads() == {FOUND}


def test_every_order_of_three_that_overlap():
    """Whoever ends first, the others keep their one thread, and the last brings back what was there."""
    for order in [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]:
        contexts = [one_blas_thread() for _ in range(3)]
        for context in contexts:
            context.__enter__()
        for count, index in enumerate(order, start=1):
            assert blas_threads() == {1}
            contexts[index].__exit__(None, None, None)
            assert blas_threads() == {1 if count < 3 else FOUND}


def test_a_limit_of_the_user_inside_is_honoured_too():
    with one_blas_thread():
        with threadpool_limits(2, user_api="blas"):
            ocp_nn.solve(sine(), options=Options(max_outer=1))
            assert blas_threads() == {2}
        assert blas_threads() == {1}


def test_a_large_problem_keeps_what_it_finds(monkeypatch):
    monkeypatch.setattr(blas, "_ONE_THREAD_SIZE", 0)
    with limited_blas(sine()):
        assert blas_threads() == {FOUND}
        with one_blas_thread():  # a small one beside it
            assert blas_threads() == {1}
        assert blas_threads() == {FOUND}


def test_solves_of_many_threads():
    seen: list[set[int]] = []

    def solve(seed):
        for _ in range(3):
            ocp_nn.solve(
                sine(), options=Options(seed=seed, max_outer=3), callback=lambda _: seen.append(blas_threads())
            )

    threads = [threading.Thread(target=solve, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) >= 12 and all(threads == {1} for threads in seen)


def test_an_exception_in_a_callback():
    def fail(_):
        raise RuntimeError

    with pytest.raises(RuntimeError):
        ocp_nn.solve(sine(), callback=fail)


def interrupted_at(event: int) -> bool:
    """Enter and leave the context with Ctrl-C at one of the lines of its bookkeeping; whether there was such a line."""
    functions, count = {blas._begin.__code__, blas._end.__code__}, 0

    def local(frame, what, _):
        nonlocal count
        # a real signal is never seen between the end of a with block and the release of its lock
        if what == "line" and not linecache.getline(blas.__file__, frame.f_lineno).strip().startswith("with "):
            count += 1
            if count == event:
                raise KeyboardInterrupt
        return local

    sys.settrace(lambda frame, *_: local if frame.f_code in functions else None)
    try:
        with one_blas_thread():
            pass
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(None)
    return False


def test_ctrl_c_anywhere():
    events = 1
    while interrupted_at(events):
        assert blas_threads() == {FOUND}
        assert not blas._in_force
        events += 1
    assert events > 10


def in_child(act) -> None:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            act()
            code = 0
        finally:
            os._exit(code)
    # A child that waits for a lock for ever fails the test; a watchdog thread of its own may not start after a fork.
    killer = threading.Timer(60, os.kill, (child, signal.SIGKILL))
    killer.start()
    try:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        killer.cancel()
        killer.join()


fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX")
threads_and_fork = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")


@fork
@threads_and_fork
def test_a_child_has_none_of_the_limits_of_other_threads():
    """One thread is in a solve, another has the lock, a third one forks."""
    inside, locked, leave = threading.Event(), threading.Event(), threading.Event()

    def solve():
        with one_blas_thread():
            inside.set()
            leave.wait()

    def hold():
        with blas._lock:
            locked.set()
            leave.wait()

    def child():
        assert blas_threads() == {FOUND}
        ocp_nn.solve(sine(), options=Options(max_outer=1))
        assert blas_threads() == {FOUND}

    threads = []
    for target, event in ((solve, inside), (hold, locked)):
        threads.append(threading.Thread(target=target))
        threads[-1].start()
        event.wait()
    try:
        in_child(child)
    finally:
        leave.set()
        for thread in threads:
            thread.join()


@fork
@threads_and_fork
def test_a_child_of_a_solve_keeps_its_limit_until_the_end():
    def child():
        assert blas_threads() == {1}
        context.__exit__(None, None, None)
        assert blas_threads() == {FOUND}

    context = one_blas_thread()
    context.__enter__()
    in_child(child)
    context.__exit__(None, None, None)
