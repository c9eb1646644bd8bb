"""Conditioning over the horizon: the matrices of single, partial and multiple shooting for networks over time.

    python scripts/conditioning_over_time.py [--horizons T ...] [--quick] [--json FILE] [--markdown FILE]
                                             [--figure FILE]

Does multiple shooting condition better than single shooting, as the paper supposes, where horizons are long and all
steps share their weights?  Three systems of two states, made of a linear part and four tanh units, are looked at where
identification ends: at the weights and states that made the record.

============  ====================================================================================
stable        poles 0.8 exp(+-0.4 i)
damped        poles 0.999 exp(+-0.3 i): an oscillation that takes a thousand steps to die
unstable      poles 1.05 and 0.9, held by a feedback that is part of the recorded input
============  ====================================================================================

The input is noise (and the feedback), the output the first state with 2 % noise, the weight decay 1e-3.  States are of
unit size.  Matrices are written out (:mod:`ocp_nn.analysis.conditioning.general`), 4,000 x 4,000 at T = 1000.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is there
sys.path.insert(0, str(Path(__file__).resolve().parent))
import numpy as np
from bench import commit, write_markdown

from ocp_nn import IdentificationProblem, StateSpaceModel, Trajectory
from ocp_nn.analysis.conditioning import measure
from ocp_nn.report import environment, write_json

HORIZONS, QUICK = (10, 30, 100, 300, 1000), (10, 30)
PENALTIES = (1.0, 1e4)
EVERY, NOISE, WEIGHT_DECAY = 10, 0.02, 1e-3
SYSTEMS = ("stable", "damped", "unstable")

# What is drawn and tabulated: shooting, matrix, beta, and words.
CURVES = (
    ("single", "gauss_newton", None, "single shooting, Gauss-Newton"),
    ("single", "hessian", None, "single shooting, exact Hessian"),
    ("multiple", "kkt", None, "multiple shooting, KKT"),
    ("multiple", "kkt_gauss_newton", None, "multiple shooting, KKT of Gauss-Newton"),
    ("multiple", "al_gauss_newton", 1.0, "augmented Lagrangian in (u, x), beta = 1"),
    ("multiple", "al_gauss_newton", 1e4, "augmented Lagrangian in (u, x), beta = 1e4"),
    ("multiple", "primal", 1.0, "condensed by forward DP, beta = 1"),
    ("multiple", "primal", 1e4, "condensed by forward DP, beta = 1e4"),
    ("partial", "kkt", None, f"nodes every {EVERY} steps, KKT"),
    ("partial", "primal", 1e4, f"nodes every {EVERY} steps, condensed, beta = 1e4"),
)


def poles(system: str) -> tuple[np.ndarray, np.ndarray]:
    """A of the linear part, and the feedback that holds it: v = noise + K x."""
    if system == "unstable":
        return np.array([[1.05, 0.2], [0.0, 0.9]]), np.array([-0.4, -0.2])
    radius, angle = (0.8, 0.4) if system == "stable" else (0.999, 0.3)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return radius * turn, np.zeros(2)


def truth(system: str, horizon: int, seed: int = 0) -> tuple[IdentificationProblem, Trajectory]:
    """A record of a system, and the weights and states that made it."""
    rng = np.random.default_rng([seed, SYSTEMS.index(system)])
    model = StateSpaceModel(num_states=2, num_inputs=1, num_outputs=1, hidden_layer_sizes=(4,))
    theta = 0.3 * model.initial_parameters(seed)
    assert model.architecture is not None
    parts = model.architecture.split(theta)  # views
    parts["A"][:], feedback = poles(system)
    parts["B"][:, 0] = 0.5, 1.0
    parts["W2"][:] *= 0.1
    parts["C"][:], parts["d"][:] = [[1.0, 0.0]], 0.0
    size = {"stable": 0.8, "damped": 0.1, "unstable": 0.5}[system]
    x, states, inputs = rng.standard_normal(2), [], []
    for _ in range(horizon):
        v = np.array([size * rng.standard_normal() + feedback @ x])
        states.append(x)
        inputs.append(v)
        x = model.values(theta, x[None], v[None])[0][0]
    outputs = np.array(states)[:, :1]
    outputs = outputs + NOISE * outputs.std() * rng.standard_normal(outputs.shape)
    problem = IdentificationProblem(model, [(np.array(inputs), outputs)], WEIGHT_DECAY, initial_weight=1.0)
    return problem, Trajectory((theta,), tuple(state[None] for state in states))


def measured(system: str, horizon: int) -> list[dict[str, Any]]:
    """One row a matrix."""
    problem, point = truth(system, horizon)
    nodes = [(), tuple(range(EVERY, horizon, EVERY)), tuple(range(1, horizon))]
    wanted = sorted({matrix for _, matrix, _, _ in CURVES} | {"constraint_jacobian"})
    sets = list(dict.fromkeys(nodes))  # short horizons have no inner node
    with np.errstate(all="ignore"):
        found = measure(problem, point, nodes=sets, penalties=PENALTIES, matrices=wanted)
    return [
        {
            "system": system, "horizon": horizon, "shooting": m.shooting.split()[0], "matrix": m.matrix,
            "penalty": m.penalty, "condition": m.spectrum.condition, "accuracy": m.spectrum.accuracy,
            "negative": m.spectrum.negative,
        }
        for m in found
    ]  # fmt: skip


def condition(rows: list[dict[str, Any]], system: str, horizon: int, curve: tuple[Any, ...]) -> dict[str, Any] | None:
    """The row of a curve."""
    key = (system, horizon, *curve[:3])
    names = ("system", "horizon", "shooting", "matrix", "penalty")
    return next((row for row in rows if tuple(row[name] for name in names) == key), None)


def words(row: dict[str, Any] | None) -> str:
    """A condition number; where it is beyond rounding only that is known."""
    if row is None:
        return "-"
    return "singular" if not row["accuracy"] < 1.0 else f"{row['condition']:.1e}"


def markdown(rows: list[dict[str, Any]], horizons: list[int]) -> str:
    lines = []
    for system in SYSTEMS:
        header = " | ".join(f"T = {horizon}" for horizon in horizons)
        lines += [f"**{system}**", "", f"| matrix | {header} |", "|---" * (len(horizons) + 1) + "|"]
        for curve in CURVES:
            cells = " | ".join(words(condition(rows, system, horizon, curve)) for horizon in horizons)
            lines.append(f"| {curve[3]} | {cells} |")
        lines.append("")
    return "\n".join(lines)


def draw(rows: list[dict[str, Any]], horizons: list[int], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    styles = {"single": "-", "multiple": "--", "partial": ":"}
    for ax, system in zip(figure.subplots(1, 3, sharey=True), SYSTEMS, strict=True):
        for i, curve in enumerate(CURVES):
            found = [(T, row["condition"]) for T in horizons if (row := condition(rows, system, T, curve))]
            shown = [(T, min(value, 1e25)) for T, value in found]
            if shown:
                ax.loglog(*zip(*shown, strict=True), styles[curve[0]], color=f"C{i}", marker=".", label=curve[3])
        ax.axhline(1 / np.finfo(float).eps, color="0.7", linewidth=1)
        ax.set(title=system, xlabel="horizon T")
    figure.axes[0].set_ylabel("condition number (grey line: 1/eps)")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8)
    figure.savefig(path, dpi=130)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--horizons", nargs="+", type=int, default=None)
    parser.add_argument("--quick", action="store_true", help=f"horizons {QUICK} only")
    for name in ("json", "markdown", "figure"):
        parser.add_argument(f"--{name}", type=Path)
    args = parser.parse_args(argv)
    horizons = args.horizons or list(QUICK if args.quick else HORIZONS)
    rows = []
    for system in SYSTEMS:
        for horizon in horizons:
            rows += measured(system, horizon)
            print(f"{system}, T = {horizon}: {len(rows)} matrices", file=sys.stderr)
    print(markdown(rows, horizons))
    if args.json:
        write_json(args.json, {"environment": environment(), "commit": commit(), "rows": rows})
    if args.markdown:
        write_markdown(args.markdown, markdown(rows, horizons))
    if args.figure:
        draw(rows, horizons, args.figure)
    return 0


if __name__ == "__main__":
    sys.exit(main())
