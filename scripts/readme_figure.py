"""Makes docs/deep_sigmoid.png, the figure of the README.

    python scripts/readme_figure.py [--out docs/deep_sigmoid.png] [--seed 0]

Ten sigmoid layers of five units on sin(2x) + noise, all from the same standard random weights: multiple shooting by the
augmented Lagrangian against the same Gauss-Newton steps with the states eliminated (single shooting, the landscape that
back-propagation sees), and L-BFGS on the back-propagated gradient.  Nobody restarts; multiple shooting begins with a
soft penalty, a hundredth of the default, under which the states leave the plateau at once.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.optimize import minimize

import ocp_nn
from ocp_nn.learning.data import load_dataset
from ocp_nn.report import with_start, write_figure
from ocp_nn.report.axes import BLACK, BLUE, GREEN, GREY, RED, log_ticks

Array = NDArray[np.float64]
HIDDEN, WEIGHT_DECAY = [5] * 10, 1e-3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/deep_sigmoid.png"))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    data = load_dataset("sin2x")
    network = ocp_nn.Network.mlp([1, *HIDDEN, 1], activation="sigmoid")
    problem = ocp_nn.TrainingProblem(network, data.x, data.y, WEIGHT_DECAY)
    start = network.init_controls(args.seed)
    solutions = {
        "multiple shooting, augmented Lagrangian": gauss_newton(problem, start, "multiple", args.seed),
        "single shooting, Gauss-Newton": gauss_newton(problem, start, "single", args.seed),
        "single shooting, L-BFGS": lbfgs(problem, start),
    }
    for name, (controls, _) in solutions.items():
        print(f"{name:42s} MSE {np.mean((network.predict(controls, data.x) - data.y) ** 2):.4f}")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_figure(args.out, figure_of(problem, solutions), dpi=130)


def gauss_newton(
    problem: ocp_nn.TrainingProblem, start: tuple[Array, ...], shooting: str, seed: int
) -> tuple[tuple[Array, ...], Array]:
    """Controls, and best objective of a rollout over the steps."""
    soft = 100 * float(np.mean(problem.y**2))
    options = ocp_nn.Options(shooting=shooting, seed=seed, penalty=soft, max_restarts=0, time_limit=60)
    result = ocp_nn.solve(problem, start, options=options)
    history = with_start(result)
    steps = [record.steps for record in history]
    objective = np.minimum.accumulate([record.rollout_objective or record.objective for record in history])
    return result.trajectory.controls, np.column_stack([steps, objective])


def lbfgs(problem: ocp_nn.TrainingProblem, start: tuple[Array, ...]) -> tuple[tuple[Array, ...], Array]:
    """SciPy's L-BFGS on the back-propagated gradient."""
    objectives: list[float] = []

    def value_and_gradient(flat: Array) -> tuple[float, Array]:
        trajectory = problem.rollout(problem.network.split(flat))
        objectives.append(problem.objective(trajectory))
        return objectives[-1], np.concatenate(problem.adjoints(trajectory).gradient)

    options = {"maxiter": 5000, "maxfun": 20000, "ftol": 0.0, "gtol": 1e-9}
    solution = minimize(value_and_gradient, np.concatenate(start), jac=True, method="L-BFGS-B", options=options)
    curve = np.column_stack([np.arange(len(objectives)), np.minimum.accumulate(objectives)])
    return problem.network.split(solution.x), curve


# Both single-shooting methods end at the same line: one is drawn broad and pale below the other, thin and dashed.
STYLES: tuple[dict[str, Any], ...] = (
    {"color": BLUE, "linestyle": "-", "marker": "o", "linewidth": 1.8, "zorder": 4},
    {"color": RED, "linestyle": "--", "marker": "s", "linewidth": 1.5, "zorder": 3},
    {"color": GREEN, "linestyle": "-", "marker": "^", "linewidth": 5.0, "alpha": 0.45, "zorder": 2},
)


def figure_of(problem: ocp_nn.TrainingProblem, solutions: dict[str, tuple[tuple[Array, ...], Array]]) -> Figure:
    figure = Figure(figsize=(9.0, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(problem.x, problem.y, ".", color=GREY, markersize=4, label="data")
    grid = np.linspace(-3, 3, 200)[:, None]
    for (name, (controls, curve)), style in zip(solutions.items(), STYLES, strict=True):
        error = float(np.mean((problem.network.predict(controls, problem.x) - problem.y) ** 2))
        curve_style = style | {"marker": "none"}
        left.plot(grid, problem.network.predict(controls, grid), **curve_style, label=f"{name}: MSE {error:.2g}")
        right.plot(*curve.T, **curve_style)
        right.plot(*curve[-1], **style | {"markersize": 8, "alpha": 1.0, "zorder": 5})
    label_ends(right, [curve[-1] for _, curve in solutions.values()])
    finish(left, "input x", "output", "ten sigmoid layers of five units")
    finish(
        right,
        "steps (L-BFGS: evaluations)",
        "best objective at the rollout",
        "from the same random weights to each end",
    )
    right.set_xscale("symlog", linthresh=1.0)
    right.set_xlim(-0.15, None)
    right.set_yscale("log")
    log_ticks(right)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure


# Of the labels at the ends, in points from the marker: above it, below it, beside it, so that equal ends do not cover.
LABELS = (
    {"xytext": (0, 9), "ha": "right", "va": "bottom", "color": BLUE},
    {"xytext": (0, -9), "ha": "center", "va": "top", "color": RED},
    {"xytext": (12, 0), "ha": "left", "va": "center", "color": GREEN},
)


def label_ends(ax: Axes, ends: list[Array]) -> None:
    """Where each method ended."""
    for (steps, objective), place in zip(ends, LABELS, strict=True):
        text = f"J = {objective:.3g}\nafter {steps:.0f}"
        ax.annotate(text, (steps, objective), textcoords="offset points", fontsize=9, **place)


def finish(ax: Axes, x: str, y: str, title: str) -> None:
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    ax.set_title(title, fontsize="medium", color=BLACK)
    ax.grid(True, alpha=0.3)


if __name__ == "__main__":
    main()
