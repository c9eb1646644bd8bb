"""The weight decay by evidence: the path from strong to weak, the climb, and what is refused."""

from __future__ import annotations

import dataclasses
import json

import casadi as ca
import numpy as np
import pytest

from ocp_nn import Network, Posterior, Status, TrainingProblem, solve
from ocp_nn.cli import main
from ocp_nn.learning import evidence
from ocp_nn.learning import selection as selection_module
from ocp_nn.learning.evidence import choose_by_evidence, choose_by_rule, log_evidence
from ocp_nn.learning.selection import WEIGHT_DECAYS, Selection, choose_weight_decay
from ocp_nn.problem.losses import Custom

NETWORK = Network.mlp([1, 6, 1])


def noisy_sine(noise: float, num_samples: int = 60):
    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 2, (num_samples, 1))
    return x, np.sin(2 * x) + noise * rng.standard_normal(x.shape)


@pytest.fixture(scope="module")
def selection():
    return choose_by_evidence(NETWORK, *noisy_sine(0.3), seed=1)


def test_it_is_the_largest_of_those_tried_from_strong_to_weak(selection):
    places = [WEIGHT_DECAYS.index(rho) for rho in selection.candidates]
    best = WEIGHT_DECAYS.index(selection.weight_decay)
    assert places == sorted(places) and set(range(0, best, 2)) | {best - 1, best + 1} <= set(places)
    assert len(selection.candidates) < len(WEIGHT_DECAYS)
    assert selection.weight_decay == selection.candidates[int(np.argmax(selection.log_evidence))]
    assert (selection.rule, selection.errors, selection.num_train, selection.num_used) == ("evidence", (), 60, 60)


def test_its_controls_are_near_the_minimum_there_and_have_that_evidence(selection):
    problem = TrainingProblem(NETWORK, *noisy_sine(0.3), selection.weight_decay)
    assert log_evidence(problem, selection.controls) == pytest.approx(max(selection.log_evidence), abs=1e-9)
    result = solve(problem, selection.controls)
    assert result.success
    exact = Posterior.of(problem, result.trajectory.controls).log_evidence()
    # loose solves tell it to less than what 60 targets scatter by, 5.5
    assert exact == pytest.approx(max(selection.log_evidence), abs=1.0)


@pytest.mark.parametrize("samples", [12, 60])
@pytest.mark.parametrize("loss", ["squared", "huber", "logistic", "poisson"])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_evidence_is_that_of_the_posterior(samples, loss, weighted):
    """In the dual form and the primal one."""
    x, y = noisy_sine(0.3, samples)
    y = {"logistic": (y > 0).astype(float), "poisson": np.round(np.exp(y))}.get(loss, y)
    weights = np.random.default_rng(1).uniform(0.5, 2, samples) if weighted else None
    problem = TrainingProblem(NETWORK, x, y, 0.3, loss=loss, sample_weight=weights)
    controls = solve(problem).trajectory.controls
    assert log_evidence(problem, controls) == pytest.approx(Posterior.of(problem, controls).log_evidence(), rel=1e-9)


def test_noisier_targets_want_more():
    decays = [choose_by_evidence(NETWORK, *noisy_sine(noise)).weight_decay for noise in (0.01, 0.3, 1.5)]
    assert decays == sorted(decays) and decays[0] < decays[1] < decays[2]


def test_it_is_reproducible_and_seeded(selection):
    again = choose_by_evidence(NETWORK, *noisy_sine(0.3), seed=1)
    assert again == selection
    for one, other in zip(again.controls, selection.controls, strict=True):
        np.testing.assert_array_equal(one, other)
    assert choose_by_evidence(NETWORK, *noisy_sine(0.3), seed=2).log_evidence != selection.log_evidence


def test_the_climb_goes_on_below_the_path(monkeypatch):
    """Where it begins too high."""
    x, y = noisy_sine(0.3)
    best = choose_by_evidence(NETWORK, x, y)
    place = WEIGHT_DECAYS.index(best.weight_decay)
    monkeypatch.setattr(evidence._Ladder, "go_down", lambda self: place - 2)
    climbed = choose_by_evidence(NETWORK, x, y)
    tried = len(climbed.candidates)
    assert tried > 2 and climbed.candidates == WEIGHT_DECAYS[place - 2 : place - 2 + tried]
    # every step down gained but the last one
    assert list(climbed.log_evidence[:-1]) == sorted(climbed.log_evidence[:-1])
    assert climbed.log_evidence[-1] <= climbed.log_evidence[-2]
    assert climbed.weight_decay == climbed.candidates[-2]


def test_of_large_tables_a_sample_shows_the_way(monkeypatch):
    x, y = noisy_sine(0.3, 300)
    whole = choose_by_evidence(NETWORK, x, y)
    monkeypatch.setattr(evidence, "PATH_SAMPLES", 60)
    sampled = choose_by_evidence(NETWORK, x, y)
    assert sampled.num_train == sampled.num_used == 300
    # what is compared in the end is of all samples
    assert len(sampled.candidates) < len(whole.candidates)
    assert abs(np.log10(sampled.weight_decay / whole.weight_decay)) < 0.6
    assert max(sampled.log_evidence) == pytest.approx(max(whole.log_evidence), rel=0.05)


def test_one_candidate_and_no_noise():
    x, y = noisy_sine(0.0)
    assert choose_by_evidence(NETWORK, x, y, [0.5]).weight_decay == 0.5
    assert choose_by_evidence(NETWORK, x, np.zeros_like(y) + 1e-12 * y, [1.0, 0.1]).weight_decay in (1.0, 0.1)
    assert choose_by_evidence(NETWORK, x[:2], y[:2]).weight_decay in WEIGHT_DECAYS


def test_samples_of_no_weight_do_not_count(selection):
    x, y = noisy_sine(0.3)
    more = np.vstack([x, x + 5]), np.vstack([y, y + 9])
    weights = np.repeat([1.0, 0.0], 60)
    weighted = choose_by_evidence(NETWORK, *more, seed=1, sample_weight=weights)
    assert weighted.weight_decay == selection.weight_decay and weighted.num_train == 60
    assert max(weighted.log_evidence) == pytest.approx(max(selection.log_evidence), abs=1.0)


def test_the_message_says_the_rule(selection):
    assert "the one under which the 60 training samples are most probable (log evidence 100: " in selection.message
    assert "log_evidence" in selection.as_dict() and "controls" not in selection.as_dict()
    json.dumps(selection.as_dict())


def test_under_constraints_the_list_ends_earlier():
    x, y = noisy_sine(0.0, 30)
    free, constrained = (choose_weight_decay(NETWORK, x, y, repeats=1, constrained=c) for c in (None, lambda p: p))
    assert constrained.candidates[-1] == 0.01 and free.candidates[-1] < 0.01


def test_auto_is_evidence_for_squares_and_held_out_otherwise(monkeypatch):
    x, y = noisy_sine(0.3, 30)
    assert choose_by_rule("auto", NETWORK, x, y).rule == "evidence"
    assert choose_by_rule("evidence", NETWORK, x, y) == choose_by_evidence(NETWORK, x, y)
    assert choose_by_rule("held-out", NETWORK, x, y) == choose_weight_decay(NETWORK, x, y)
    assert choose_by_rule("auto", NETWORK, x, (y > 0).astype(float), loss="logistic").rule == "held-out"
    assert choose_by_rule("evidence", NETWORK, x, (y > 0).astype(float), loss="logistic").rule == "evidence"
    assert choose_by_rule("auto", NETWORK, x, y, constrained=lambda problem: problem).rule == "held-out"
    monkeypatch.setattr(evidence, "LARGEST", 5)
    assert choose_by_rule("auto", NETWORK, x, y).rule == "held-out"
    with pytest.raises(ValueError, match="at most 5 targets or weights, received the loss 'squared', 30 targets"):
        choose_by_rule("evidence", NETWORK, x, y)


def test_where_the_evidence_does_not_decide_samples_are_held_out(monkeypatch):
    x, y = noisy_sine(0.3)
    found = choose_by_evidence(NETWORK, x, y)
    alike = [rho for rho, v in zip(found.candidates, found.log_evidence, strict=True)
             if v >= max(found.log_evidence) - np.sqrt(30)]  # fmt: skip
    assert len(alike) > 1
    chosen = choose_by_rule("auto", NETWORK, x, y)
    assert chosen.log_evidence == found.log_evidence and chosen.weight_decay in alike
    assert (chosen.num_validation, chosen.repeats) == (12, 3)
    assert "equally probable but for their scatter" in chosen.message and "held out 3 times" in chosen.message
    assert (chosen.controls is None) == (chosen.weight_decay != found.weight_decay)
    # of large tables the evidence alone decides, and where it tells candidates apart
    monkeypatch.setattr(evidence, "PATH_SAMPLES", 59)
    assert choose_by_rule("auto", NETWORK, x, y).repeats == 0
    monkeypatch.undo()
    monkeypatch.setattr(evidence, "_not_told_apart", lambda *_: [found.weight_decay])
    assert choose_by_rule("auto", NETWORK, x, y) == found


@pytest.mark.parametrize("rule", ["evidence", "held-out"])
def test_ctrl_c_ends_the_choice(monkeypatch, rule):
    """And not one of its solves."""
    module = evidence if rule == "evidence" else selection_module
    original, calls = module.solve, []

    def interrupted(*args, **kwargs):
        calls.append(1)
        return dataclasses.replace(original(*args, **kwargs), status=Status.INTERRUPTED)

    monkeypatch.setattr(module, "solve", interrupted)
    with pytest.raises(KeyboardInterrupt):
        choose_by_rule(rule, NETWORK, *noisy_sine(0.3, 20))
    assert len(calls) == 1


def test_bad_input():
    x, y = noisy_sine(0.1)
    with pytest.raises(ValueError, match="candidates must be a sequence of at least one"):
        choose_by_evidence(NETWORK, x, y, candidates=[])
    with pytest.raises(ValueError, match="candidates"):
        choose_by_evidence(NETWORK, x, y, candidates=[1.0, 0.0])
    with pytest.raises(ValueError, match="seed"):
        choose_by_evidence(NETWORK, x, y, seed=-1)
    with pytest.raises(ValueError, match="options"):
        choose_by_evidence(NETWORK, x, y, options=5)
    with pytest.raises(ValueError, match="rule must be"):
        choose_by_rule("guess", NETWORK, x, y)
    with pytest.raises(ValueError, match="without constraints"):
        choose_by_rule("evidence", NETWORK, x, y, constrained=lambda problem: problem)
    z, t = ca.MX.sym("z"), ca.MX.sym("y")
    own = Custom(ca.Function("own", [z, t], [ca.log(ca.cosh(z - t))]))
    with pytest.raises(ValueError, match="known likelihood"):
        choose_by_evidence(NETWORK, x, y, loss=own)


def test_the_estimator_trains_on_from_there(monkeypatch):
    pytest.importorskip("sklearn")
    from ocp_nn import OCPRegressor
    from ocp_nn.learning.estimator import base

    x, y = noisy_sine(0.3)
    original, starts = base.solve, []

    def noted(problem, start=None, **more):
        starts.append(start)
        return original(problem, start, **more)

    monkeypatch.setattr(base, "solve", noted)
    model = OCPRegressor((6,), weight_decay="evidence", random_state=0).fit(x, y.ravel())
    assert len(starts) == 1 and starts[0] is model.selection_.controls
    assert model.selection_.rule == "evidence" and model.weight_decay_ == model.selection_.weight_decay
    assert model.status_.value == "converged"
    assert OCPRegressor((6,), random_state=0, weight_decay="held-out").fit(x, y.ravel()).selection_.rule == "held-out"
    assert OCPRegressor((6,), random_state=0, weight_decay=1.0).fit(x, y.ravel()).selection_ is None
    with pytest.raises(ValueError, match="weight_decay"):
        OCPRegressor((6,), weight_decay="guess").fit(x, y.ravel())


@pytest.mark.parametrize("rule", ["auto", "evidence", "held-out"])
def test_fit_says_the_rule_and_goes_on_with_its_choice(tmp_path, capsys, rule):
    command = ["fit", "sin2x", "--hidden", "6", "--reference", "none", "--weight-decay", rule, "--out", str(tmp_path)]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert ("probable" in said) == (rule != "held-out")
    first = json.loads((tmp_path / "summary.json").read_text())
    assert main(["fit", "--resume", str(tmp_path)]) == 0
    again = json.loads((tmp_path / "summary.json").read_text())
    for key in ("weight_decay", "weight_decay_selection", "objective"):
        assert first[key] == again[key]


def test_fit_refuses_an_unknown_rule(capsys):
    with pytest.raises(SystemExit):
        main(["fit", "sin2x", "--weight-decay", "guess"])
    assert "weight-decay" in capsys.readouterr().err


def test_a_selection_keeps_a_value_for_every_candidate():
    bare = Selection(weight_decay=1.0, candidates=(1.0,), log_evidence=(-np.inf,), num_train=3, num_used=3)
    assert "1: -inf" in bare.message
