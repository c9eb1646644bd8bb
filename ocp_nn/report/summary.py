"""Everything one fit produced: the dictionary behind ``summary.json``, the final table, and the files of a folder."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..display import brief
from ..experiment import Baseline, Experiment
from ..persistence import save
from ..reference import Confirmation
from ..result import Result
from ..selection import Selection
from .environment import environment
from .figures import convergence_figure, layers_figure, predictions_figure
from .files import write_figure, write_history, write_json
from .tables import format_number, format_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Fit", "final_table", "summarize", "write_fit"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Fit:
    """A solved experiment with what it is compared to.

    Attributes
    ----------
    experiment : Experiment
    weight_decay : float
    selection : Selection or None
        How the weight decay was chosen, if it was.
    seed : int
    activation : str
    shooting : str
    tolerance : float
    result : Result
    linear : Baseline
    reference : Result or None
        IPOPT from the same initial weights.
    confirmation : Confirmation or None
        IPOPT from our solution.
    """

    experiment: Experiment
    weight_decay: float
    selection: Selection | None
    seed: int
    activation: str
    shooting: str
    tolerance: float
    result: Result
    linear: Baseline
    reference: Result | None = None
    confirmation: Confirmation | None = None

    __repr__ = brief

    def errors(self, result: Result) -> dict[str, float]:
        """Training and test RMSE of a result's controls."""
        controls = result.trajectory.controls
        return {f"{part}_rmse": self.experiment.rmse(controls, part) for part in ("train", "test")}


def summarize(fit: Fit) -> dict[str, Any]:
    """The content of ``summary.json``."""
    data, result = fit.experiment.dataset, fit.result
    return {
        "dataset": data.name,
        "source": data.source,
        "targets": data.target_names,
        "units": data.units,
        "num_train": len(fit.experiment.split.train),
        "num_test": len(fit.experiment.split.test),
        "sizes": fit.experiment.network.sizes,
        "activation": fit.activation,
        "weight_decay": fit.weight_decay,
        "weight_decay_selection": None if fit.selection is None else fit.selection.as_dict(),
        "seed": fit.seed,
        "shooting": fit.shooting,
        "tolerance": fit.tolerance,
        "status": result.status.value,
        "message": result.message,
        "objective": result.objective,
        "rollout_objective": result.rollout_objective,
        "max_defect": result.max_defect,
        "stationarity": result.stationarity,
        **fit.errors(result),
        "outer_iterations": result.counts["outer"],
        "gauss_newton_steps": result.counts["gauss_newton"],
        "counts": result.counts,
        "seconds": result.seconds,
        "linear_regression": {"train_rmse": fit.linear.train_rmse, "test_rmse": fit.linear.test_rmse},
        "reference": _reference(fit),
        "environment": environment(),
    }


def _reference(fit: Fit) -> dict[str, Any] | None:
    if fit.reference is None or fit.confirmation is None:
        return None
    cold, check = fit.reference, fit.confirmation
    return {
        "solver": "ipopt",
        "transcription": "single shooting",
        "status": cold.status.value,
        "message": cold.message,
        "objective": cold.rollout_objective,
        **fit.errors(cold),
        "iterations": _iterations(cold),
        "seconds": cold.seconds,
        "confirmed": check.confirmed,
        "confirm_relative_change": check.relative_change,
        "confirm_status": check.result.status.value,
        "confirm_iterations": _iterations(check.result),
        "confirm_seconds": check.result.seconds,
    }


def _iterations(result: Result) -> int:
    return result.counts.get("iterations", max(len(result.history) - 1, 0))


def final_table(fit: Fit) -> str:
    """Our solver, IPOPT and linear regression beside each other."""
    unit = f" [{fit.experiment.dataset.units}]" if fit.experiment.dataset.units else ""
    header = ("method", "status", f"train RMSE{unit}", f"test RMSE{unit}", "objective", "seconds")
    rows = [_row(fit, "AL + Gauss-Newton", fit.result)]
    if fit.reference is not None:
        rows.append(_row(fit, "IPOPT single shooting", fit.reference))
    linear = fit.linear
    numbers = (format_number(linear.train_rmse), format_number(linear.test_rmse), "-", f"{linear.seconds:.2f}")
    return format_table(header, [*rows, ("linear regression", "solved", *numbers)])


def _row(fit: Fit, method: str, result: Result) -> tuple[str, ...]:
    errors = fit.errors(result)
    numbers = (errors["train_rmse"], errors["test_rmse"])
    objective = format_number(result.rollout_objective, 7)
    return (method, result.status.value, *map(format_number, numbers), objective, f"{result.seconds:.2f}")


def write_fit(folder: Path, fit: Fit) -> None:
    """``summary.json``, ``history.csv``, ``model.npz``, and ``convergence``, ``predictions`` and ``layers.png``."""
    experiment, data = fit.experiment, fit.experiment.dataset
    controls = fit.result.trajectory.controls
    parts = [(f"{p}ing" if p == "train" else p, p) for p in ("train", "test")]
    predictions = [(label, experiment.measured(p), experiment.predicted(controls, p)) for label, p in parts]
    names = [f"{name} [{data.units}]" if data.units else name for name in data.target_names]
    title = f"{data.name}, {'-'.join(map(str, experiment.network.sizes))}, {fit.result.status.value}"
    write_history(folder / "history.csv", fit.result.history)
    _write_model(folder / "model.npz", fit)
    tolerance = fit.tolerance * max(1.0, fit.result.objective)
    write_figure(folder / "convergence.png", convergence_figure(fit.result.history, title, tolerance))
    write_figure(folder / "predictions.png", predictions_figure(predictions, names, title))
    write_figure(folder / "layers.png", _layers(fit, title))
    write_json(folder / "summary.json", summarize(fit))


def _layers(fit: Fit, title: str) -> Figure:
    problem, trajectory = fit.experiment.problem(fit.weight_decay), fit.result.trajectory
    adjoints = problem.adjoints(problem.rollout(trajectory.controls)).costates
    return layers_figure(fit.experiment.network, trajectory, title, adjoints=adjoints)


def _write_model(path: Path, fit: Fit) -> None:
    """Weights, units and names, without the training data; the rows of the two parts go along."""
    result = replace(fit.result, model=fit.experiment.model(fit.result.trajectory.controls))
    rows = {"train_rows": fit.experiment.split.train, "test_rows": fit.experiment.split.test}
    save(result, path, state=False, arrays=rows)
