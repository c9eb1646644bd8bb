"""Random data, options, files, arguments, threads and kills: no crash, no foreign exception, no wrong answer, no trace.

``scripts/fuzz.py`` runs the same over 20,000 cases and runs a failing one again.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

import ocp_nn

SCRIPTS = str(Path(__file__).parents[1] / "scripts")

# Cases in all; see fuzz_suite.cases.SHARES for how they are divided.
CASES = 2100


@pytest.fixture(scope="module")
def suite():
    """The script and its suite, as modules."""
    sys.path.insert(0, SCRIPTS)
    try:
        import fuzz
        from fuzz_suite import cases
    finally:
        sys.path.remove(SCRIPTS)
    pytest.importorskip("sklearn")
    return fuzz, cases


@pytest.mark.parametrize("area", ["data", "options", "files", "arguments", "threads", "kills"])
def test_no_case_fails(suite, area):
    _, cases = suite
    number = cases.allotted(CASES)[area]
    outcomes = cases.run_cases((area, seed) for seed in range(number))
    assert len(outcomes) == number
    assert {f"{area}:{outcome.seed}": outcome.faults for outcome in outcomes if outcome.faults} == {}


def test_there_are_two_thousand(suite):
    _, cases = suite
    assert sum(cases.allotted(CASES).values()) >= 2000


def raise_from_below():
    np.zeros(2) @ np.zeros(3)


PLANTED = {
    "another answer": (lambda: None, {"outputs": lambda *_: np.zeros((1, 1))}, "not those of the plain formula"),
    "an exception of others": (raise_from_below, {}, "ValueError: matmul"),
    "printed": (lambda: print("here"), {}, "printed: 'here"),
    "a warning": (lambda: warnings.warn("odd", stacklevel=1), {}, "UserWarning: odd"),
    "a setting": (lambda: np.seterr(over="ignore", divide="raise"), {}, "changed: floating-point settings"),
    "a generator": (lambda: np.random.mtrand._rand.standard_normal(), {}, "changed: numpy.random"),
}


@pytest.mark.parametrize(("act", "patches", "fault"), PLANTED.values(), ids=PLANTED)
def test_what_is_planted_is_found(suite, monkeypatch, act, patches, fault):
    """Each kind of fault, in case 0 of the data; the settings come back afterwards."""
    _, cases = suite
    problem = ocp_nn.TrainingProblem(ocp_nn.Network.mlp([1, 2, 1]), [[0.0], [1.0]], [0.0, 1.0])
    model = ocp_nn.Model(problem.network, problem.network.init_controls(0))

    def run(rng, folder):
        from fuzz_suite.oracles import check_model

        check_model(model, problem.x)
        act()

    with np.errstate(), warnings.catch_warnings():
        monkeypatch.setattr(cases, "_prepared", lambda area: type("Area", (), {"run": staticmethod(run)}))
        for name, value in patches.items():
            monkeypatch.setattr(ocp_nn.Model, name, value)
        (outcome,) = cases.run_cases([("data", 0)])
    assert any(fault in sentence for sentence in outcome.faults), outcome.faults


def test_a_file_written_elsewhere_is_found(suite, monkeypatch, tmp_path):
    _, cases = suite
    area = type("Area", (), {"run": staticmethod(lambda rng, folder: (tmp_path / "stray").write_text("x"))})
    monkeypatch.setattr(cases, "_prepared", lambda _: area)
    (outcome,) = cases.run_cases([("data", 0)])
    assert outcome.faults == (f"written outside: open {tmp_path.resolve() / 'stray'}",)


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="POSIX signals")
def test_a_case_that_hangs_is_found(suite, monkeypatch):
    _, cases = suite
    monkeypatch.setattr(cases, "_HANGS", 1)
    area = type("Area", (), {"run": staticmethod(lambda rng, folder: time.sleep(60))})
    monkeypatch.setattr(cases, "_prepared", lambda _: area)
    (outcome,) = cases.run_cases([("data", 0)])
    assert "hangs: after 1 s in test_fuzz_finds_nothing.py" in outcome.faults[0]


def test_words_of_others_are_not_ours(suite):
    from fuzz_suite.words import Fault, Refused, our_words

    with pytest.raises(Fault, match="not in our words"), our_words():
        raise_from_below()
    with pytest.raises(Refused, match="seed must be"), our_words(naming=("seed",)):
        ocp_nn.Options(seed=-1)
    with pytest.raises(Fault, match="none of"), our_words(naming=("damping",)):
        ocp_nn.Options(seed=-1)


def test_the_script_prints_how_to_run_a_failing_case_again(suite, monkeypatch, capsys):
    fuzz, cases = suite
    assert fuzz.main(["--only", "data:5"]) == 0
    monkeypatch.setattr(cases, "_faults", lambda *_: ["planted"])
    assert fuzz.main(["--cases", "2", "--jobs", "1", "--area", "data"]) == 1
    printed = capsys.readouterr().out
    assert "python scripts/fuzz.py --only data:0  # planted" in printed
    assert "2 cases, 2 failing" in printed


def test_a_process_that_dies_is_a_fault_of_its_case(suite, monkeypatch):
    _, cases = suite
    monkeypatch.setattr(cases, "_run_chunk", dies)
    outcomes = cases.run_cases([("data", 7)], jobs=2)
    assert [(o.seed, o.faults) for o in outcomes] == [(7, ("its process, or the other one, died",))]


def dies(chunk, folder):
    Path(folder, "note").write_text("{}:{}".format(*chunk[0]))
    os._exit(1)
