"""What an object says of itself fits into a line, whatever its size; in a notebook it is a table with escaped text."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser

import casadi as ca
import pytest

import ocp_nn
from ocp_nn import Network, Options, Trajectory
from ocp_nn.base.display import html_table
from ocp_nn.forward_dp import solve as solve_subproblem
from ocp_nn.learning.experiment import Experiment
from ocp_nn.solvers.augmented_lagrangian.lagrangian import AugmentedLagrangian

DATA = ocp_nn.load_dataset("friedman")
EXPERIMENT = Experiment.prepare(DATA, (20, 20))
PROBLEM = EXPERIMENT.problem(1.0)
RESULT = ocp_nn.solve(PROBLEM, options=Options(max_outer=2))
DEEP = Network.mlp([10, *[20] * 60, 1], residual=True)
_LAGRANGIAN = AugmentedLagrangian(PROBLEM, RESULT.trajectory.multipliers[1:], (1.0, 1.0))
_SUBPROBLEM = _LAGRANGIAN.subproblem(_LAGRANGIAN.at(RESULT.trajectory.controls, RESULT.trajectory.states), 0.1)

THINGS = {
    "data set": (DATA, "Dataset(friedman, 500 samples, x1, x2, x3, x4, x5, x6, ... (10) -> y)"),
    "experiment": (EXPERIMENT, "Experiment("),
    "split": (EXPERIMENT.split, "Split(train=<array 450>, test=<array 50>)"),
    "scaler": (EXPERIMENT.x_scaler, "Scaler(mean=<array 10>, scale=<array 10>)"),
    "network": (PROBLEM.network, "Network(10-20-20-1, 2 x tanh, identity)"),
    "deep network": (DEEP, "Network(10-20-20-20-20-20-...-20-1, tanh, 59 x tanh residual, identity)"),
    "problem": (PROBLEM, "TrainingProblem(Network(10-20-20-1, 2 x tanh, identity), 450 samples, weight_decay=1)"),
    "trajectory": (RESULT.trajectory, "Trajectory(3 stages, 450 samples, states 10-20-20, with multipliers)"),
    "bare trajectory": (
        Trajectory(RESULT.trajectory.controls, RESULT.trajectory.states),
        "Trajectory(3 stages, 450 samples, states 10-20-20, without multipliers)",
    ),
    "odd trajectory": (Trajectory((), ()), "Trajectory(0 stages, 0 samples"),
    "adjoints": (PROBLEM.adjoints(RESULT.trajectory), "Adjoints(costates=<4 entries>, gradient=<3 entries>)"),
    "result": (RESULT, "Result(outer limit by augmented Lagrangian, objective "),
    "certificate": (RESULT.certificate, "Certificate("),
    "model": (RESULT.model, "Model(Network(10-20-20-1, 2 x tanh, identity), x0, x1, x2, x3, x4, x5, ... (10) -> y0)"),
    "program": (ocp_nn.multiple_shooting(PROBLEM), "NLP(multiple shooting, 18661 variables, 18000 constraints, "),
    "state": (RESULT.state, "SolverState("),
    "point": (RESULT.state.point, "Point("),
    "subproblem": (_SUBPROBLEM, "Subproblem("),
    "step": (solve_subproblem(_SUBPROBLEM), "Step("),
    "stage": (_SUBPROBLEM.stages[0], "DenseStage(layer=<Dense>, x=<array 450 x 10>"),
    "derivative report": (ocp_nn.check_derivatives(Network.mlp([1, 2, 1])), "DerivativeReport("),
}


@pytest.mark.parametrize(("thing", "start"), THINGS.values(), ids=THINGS)
def test_every_object_is_one_short_line(thing, start):
    shown = repr(thing)
    assert shown.startswith(start)
    assert len(shown) < 450 and "\n" not in shown and " at 0x" not in shown


def test_stages_of_ones_own_are_named():
    x, u = ca.MX.sym("x", 2), ca.MX.sym("u", 1)
    stage = ca.Function("pendulum", [x, u], [x * u])
    assert repr(Network([stage, stage])) == "Network(2-2-2, 2 x 'pendulum')"


class _Tables(HTMLParser):
    """Counts tags and gathers text; every tag must be closed in its turn."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.mark.parametrize("name", ["result", "certificate", "network", "deep network", "program"])
def test_tables_for_notebooks_are_whole(name):
    parser = _Tables()
    parser.feed(THINGS[name][0]._repr_html_())
    assert not parser.open and parser.tags[0] == "table" and parser.tags.count("tr") > 2
    assert set(parser.tags) <= {"table", "caption", "thead", "tbody", "tr", "th", "td"}


def test_tables_say_what_matters():
    table = RESULT._repr_html_()
    assert "outer limit" in table and "Raise max_outer" in table and f"{RESULT.objective:.10g}" in table
    assert "verdict at 1e-6" in RESULT.certificate._repr_html_()
    assert all(f"<td>{width}</td>" in PROBLEM.network._repr_html_() for width in (10, 20, 1, 220, 420, 21))
    assert "<td>x2</td><td>state</td>" in ocp_nn.multiple_shooting(PROBLEM)._repr_html_()


def test_text_in_tables_is_escaped():
    hostile = "<script>alert('x')</script>&"
    assert "<script>" not in html_table(hostile, [(hostile, hostile)], [hostile])
    assert "<script>" not in replace(RESULT, message=hostile, solver=hostile)._repr_html_()
