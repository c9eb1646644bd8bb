"""Claim: table, correlations, verdict and figures follow from the CSV files: other numbers, other words."""

from __future__ import annotations

import re

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from ocp_nn import Network, TrainingProblem
from ocp_nn.analysis.conditioning import Grid, Settings, run_sweep
from ocp_nn.analysis.conditioning.advice import advise
from ocp_nn.analysis.conditioning.correlations import correlations, spearman
from ocp_nn.analysis.conditioning.figures import FIGURES, plot_depth, plot_penalty, plot_products
from ocp_nn.analysis.conditioning.findings import verdict
from ocp_nn.analysis.conditioning.groups import Sweep, groups, load_sweep
from ocp_nn.cli import main
from ocp_nn.learning.data import load_dataset

DEPTHS = (2, 5, 10, 20)


def synthetic(
    *, kkt=10.0, penalty_power=1.0, condition_of=lambda depth, seed: 1e3 * depth, trains=lambda depth, seed: True
):
    """Tables in which everything is known: condition numbers per depth, and which trainings succeed."""
    matrices, training, history, stages = [], [], [], []
    for depth in DEPTHS:
        for seed in range(3):
            run = {"run": f"d{depth}-s{seed}", "depth": str(depth), "width": "5", "activation": "tanh",
                   "initialisation": "standard", "seed": str(seed)}  # fmt: skip
            point = run | {"phase": "start", "method": "", "step": "0"}

            def add(matrix, shooting, penalty, condition, rank="", point=point):
                values = {"matrix": matrix, "shooting": shooting, "penalty": penalty, "condition": repr(condition)}
                matrices.append(point | values | {"rank": rank, "rows": "20", "columns": "40"})

            single = condition_of(depth, seed)
            add("jacobian", "single", "", 1e20, rank=str(20 - depth // 2))
            add("gauss_newton", "single", "", single)
            add("gauss_newton_no_decay", "single", "", np.inf)
            add("hessian", "single", "", 2.0 * single)
            add("constraint_jacobian", "multiple", "", 30.0)
            add("kkt_gauss_newton", "multiple", "", kkt * single)
            add("kkt", "multiple", "", kkt * 2.0 * single)
            for beta in (1.0, 1e4):
                add("al_gauss_newton", "multiple", repr(beta), kkt * single * beta**penalty_power)
                add("dual", "multiple", repr(beta), single)
                add("primal", "multiple", repr(beta), 3.0 * single)
            for method in ("lm", "al"):
                error = 0.01 if method == "al" or trains(depth, seed) else 1.0
                training.append(
                    run | {"method": method, "steps": "50", "error": repr(error), "best_error": repr(error)}
                )
                history += [
                    run | {"method": method, "step": str(s), "error": repr(e)} for s, e in ((0, 1.0), (50, error))
                ]
            stages += [
                point | {"stage": str(k), "state_variance": repr(0.25**k), "gradient_norm": "1"} for k in range(4)
            ]
    return Sweep(matrices, stages, [], [], training, history)


def said(sweep):
    return " ".join(verdict(sweep))


def test_medians_and_choices():
    sweep = synthetic(condition_of=lambda depth, seed: 10.0 ** (depth + seed), trains=lambda depth, seed: depth < 10)
    table = {g.depth: g for g in groups(sweep)}
    assert {g.initialisation for g in table.values()} == {"standard"}
    assert_allclose([table[d].gauss_newton for d in DEPTHS], [10.0 ** (d + 1) for d in DEPTHS])
    assert_allclose([table[d].al_high for d in DEPTHS], [10.0 * 1e4 * 10.0 ** (d + 1) for d in DEPTHS])
    assert_allclose([table[d].condensed_high for d in DEPTHS], [10.0 ** (d + 1) for d in DEPTHS])
    assert_allclose([table[d].rank for d in DEPTHS], [(20 - d // 2) / 20 for d in DEPTHS])
    assert_allclose(table[2].signal, 0.25)  # standard deviations of stages 0 and 2: 1 and 1/4
    assert [table[d].success for d in DEPTHS] == [{"lm": float(d < 10), "al": 1.0} for d in DEPTHS]
    assert [table[d].choice for d in DEPTHS] == ["single", "single", "multiple", "multiple"]


@pytest.mark.parametrize(("kkt", "word"), [(100.0, "fails"), (0.01, "holds for")])
def test_hypothesis(kkt, word):
    text = said(synthetic(kkt=kkt))
    assert f"better conditioned {word}" in text
    assert f"median ratio {kkt:.1f}" in text


@pytest.mark.parametrize(("power", "factor"), [(1.0, "1.0e+04"), (0.0, "1.0e+00")])
def test_penalty(power, factor):
    assert f"gets worse by a factor of {factor}" in said(synthetic(penalty_power=power))


@pytest.mark.parametrize(
    ("condition_of", "word"),
    [
        (lambda depth, seed: 1e3 * depth + seed, "they do, so a warning"),
        (lambda depth, seed: 1e6 / depth + seed, "the sign is the wrong one"),
        (lambda depth, seed: 10.0 + (depth * 7 + seed * 5) % 3, "they hardly correlate"),
    ],
)
def test_warning_on_the_condition_number(condition_of, word):
    sweep = synthetic(condition_of=condition_of, trains=lambda depth, seed: depth < 10)
    assert word in said(sweep)


def test_correlations_are_spearmans():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal(40), rng.integers(0, 4, 40).astype(float)
    assert_allclose(spearman(x, y), stats.spearmanr(x, y).statistic, rtol=1e-12)
    assert np.isnan(spearman(x, np.ones(40)))
    # the strata explain everything, and within them the sign is the other one
    strata = np.repeat([0, 1], 20)
    ramp = np.tile(np.arange(20.0), 2)
    assert spearman(100.0 * strata + ramp, 100.0 * strata - ramp) > 0.4
    assert_allclose(spearman(100.0 * strata + ramp, 100.0 * strata - ramp, strata), -1.0)


def test_correlation_with_success_and_steps():
    sweep = synthetic(trains=lambda depth, seed: depth < 10)
    found = {(c.measure, c.method, c.outcome): c for c in correlations(sweep)}
    lm = found["rank", "lm", "success"]
    assert lm.count == 12 and lm.value > 0.8 and np.isnan(lm.within_depth)
    assert np.isnan(found["rank", "al", "success"].value)  # it always succeeds
    assert found["rank", "lm", "steps"].count == 6
    assert "al: success does not vary" in said(sweep)


def test_numbers_are_drawn():
    from matplotlib.figure import Figure

    sweep = synthetic()
    ax = Figure().add_subplot()
    plot_depth(sweep, ax, "tanh", "standard")
    lines = {line.get_label(): line for line in ax.lines}
    assert_allclose(lines["single: Gauss-Newton"].get_data(), [DEPTHS, [1e3 * d for d in DEPTHS]])
    assert_allclose(lines["multiple: AL in (u, x)"].get_ydata(), [1e8 * d for d in DEPTHS])
    ax = Figure().add_subplot()
    plot_penalty(sweep, ax, "tanh", "standard", 20)
    lines = {line.get_label(): line for line in ax.lines}
    assert_allclose(lines["AL in (u, x)"].get_data(), [[1.0, 1e4], [2e5, 2e9]])
    assert_allclose(lines["forward DP, dual"].get_ydata(), [2e4, 2e4])


def test_products_are_drawn_over_stages():
    from matplotlib.figure import Figure

    sweep = synthetic()
    point = sweep.stages[0]
    sweep.products.extend(point | {"depth": "20", "first": str(j), "last": str(k), "largest": repr(10.0 ** (j - k))}
                          for j in range(21) for k in range(j, 21))  # fmt: skip
    image = plot_products(sweep, Figure().add_subplot(), "tanh", "standard", 20)
    drawn = np.ma.filled(image.get_array(), np.nan)
    assert_allclose(drawn[20, 0], -20.0)
    assert_allclose(np.diag(drawn), 0.0, atol=1e-12)
    assert np.isnan(drawn[0, 20])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("sweep")
    arguments = ["conditioning", "sin2x", "--depths", "1,3", "--widths", "3", "--activations", "tanh,relu",
                 "--seeds", "1", "--penalties", "1,1e4", "--samples", "12", "--steps", "20",
                 "--workers", "2", "--out", str(path)]  # fmt: skip
    assert main([*arguments, "--quiet"]) == 0
    return path, arguments


def test_every_figure_from_the_files_alone(folder):
    sweep = load_sweep(folder[0])
    for name, figure in FIGURES.items():
        drawn = figure(sweep)
        assert (folder[0] / f"{name}.png").stat().st_size > 5000
        assert all(ax.has_data() for ax in drawn.axes if ax.get_label() != "<colorbar>"), name


def test_the_command_prints_table_verdict_and_choice(folder, capsys):
    arguments = folder[1]
    assert main([*arguments, "--hidden", "3", "--activation", "tanh"]) == 0
    out = capsys.readouterr().out
    assert "0 runs done" in out and "8 were there" in out
    for word in ("single GN", "AL (u,x)", "Rank correlation with success", "The hypothesis", "Trainings that reach"):
        assert word in out, word
    assert re.search(r"Choice: (single|multiple) shooting from '(standard|states)' weights", out)
    conditions = re.findall(r"\d\.\de[+-]\d\d", out.split("Condition numbers: ")[1])
    assert len(conditions) >= 5
    table = [line for line in out.splitlines() if not line.startswith("- ")]
    assert max(map(len, table)) <= 130


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--depths", "2,x"], "must be integers from 1 to 100000 separated by commas, received '2,x'"),
        (["--activations", "tanh,sine"], "softplus, identity, separated by commas, received 'tanh,sine'"),
        (["--weight-decay", "0"], "--weight-decay: must be a finite number > 0, received '0'"),
        (["--no-sweep"], "nothing to do without --hidden"),
        (["nowhere.csv"], "no such file"),
    ],
)
def test_mistakes_are_one_line(arguments, message, capsys, tmp_path):
    try:
        code = main(["conditioning", *arguments, "--out", str(tmp_path)])
    except SystemExit as stop:
        code = stop.code
    assert code == 1
    error = capsys.readouterr().err
    assert message in error and len(error.strip().splitlines()) == 1


def sine(network):
    x = np.linspace(-2, 2, 40)[:, None]
    return TrainingProblem(network, x, np.sin(2 * x), 1e-3)


def test_advice_for_a_shallow_network_is_single_shooting():
    advice = advise(sine(Network.mlp([1, 5, 5, 1], "tanh")), steps=60)
    assert advice.shooting == "single"
    best = min(trial.best_error for trial in advice.trials.values())
    assert advice.trials["lm", advice.initialisation].best_error < 1.3 * best


def test_advice_does_not_repeat_what_failed_in_the_trials():
    """Ten sigmoid layers from standard weights stay at the mean in single shooting; fitted states do not."""
    advice = advise(sine(Network.mlp([1, *[5] * 10, 1], "sigmoid")), steps=60)
    assert advice.trials["lm", "standard"].best_error > 0.95
    assert (advice.shooting, advice.initialisation) != ("single", "standard")
    assert advice.layers.signal_ratio < 1e-3
    assert any("rank" in reason for reason in advice.reasons)


def test_advice_needs_hidden_layers():
    with pytest.raises(ValueError, match="without hidden layers"):
        advise(sine(Network.mlp([1, 1])))


def test_an_empty_folder_is_no_sweep(tmp_path):
    with pytest.raises(ValueError, match="no finished run"):
        load_sweep(tmp_path)


def test_a_sweep_without_trainings_still_speaks(tmp_path):
    grid = Grid(depths=(1,), widths=(2,), activations=("tanh",), initialisations=("standard",), seeds=(0,))
    run_sweep(load_dataset("sin2x"), tmp_path, grid=grid, settings=Settings(methods=(), samples=10), workers=0)
    sweep = load_sweep(tmp_path)
    assert "hypothesis" in said(sweep)
    assert [g.choice for g in groups(sweep)] == ["-"]
    for figure in FIGURES.values():
        figure(sweep)
