"""Everything one fit produced: the dictionary behind ``summary.json``, the final table, and the files of a folder."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..base.display import brief
from ..learning.compact_posterior import CompactPosterior
from ..learning.data.dataset import label
from ..learning.experiment import Baseline, Experiment, constant_baseline
from ..learning.likelihood import has_scale, is_known
from ..learning.metrics import WORDS
from ..learning.overfitting import WORSE, effective_parameters, held_out_note, interpolation_note
from ..learning.posterior import Posterior
from ..learning.selection import Selection
from ..problem.losses import Squared
from ..problem.result import Result
from ..problem.training import TrainingProblem
from ..solvers.augmented_lagrangian.files import save
from ..solvers.nlp.reference import Confirmation
from .classifier_figures import classifier_figure
from .collapse import collapsed_units
from .environment import environment
from .figures import convergence_figure, predictions_figure
from .files import write_figure, write_history, write_json
from .layer_figures import layers_figure
from .phases import ELIMINATED, LIFTED_NEWTON, WHY_ELIMINATED, WHY_LIFTED, phases, with_start
from .tables import format_number, shape_text
from .text_table import format_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Fit", "final_table", "summarize", "write_fit"]

Array = NDArray[np.float64]

# What to do about a network that is worse than a simpler model: its weight decay was given, or was chosen already.
_CHOOSE = "Raise the weight decay, or leave it out to have it chosen."
_SIMPLIFY = "Use the simpler model or a smaller network; another seed shows how much the split matters."


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

    @property
    def succeeded(self) -> bool:
        """Whether the solve converged to a network whose errors are numbers."""
        return self.result.success and bool(np.isfinite([*self.errors(self.result).values()]).all())

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What a person should know beside the status: one sentence each, none for an ordinary fit."""
        sentences = (*self._held_out_notes(), self._extrapolation_note())
        return tuple(sentence for sentence in sentences if sentence)

    def _held_out_notes(self) -> tuple[str, ...]:
        kind, measure = self.experiment.loss.name, f"test_{self.experiment.measure}"
        all_errors = (self.errors(self.result), self.linear.errors, self.constant.errors)
        words: dict[str, Any] = {}
        if kind != "squared":
            words = {"measure": WORDS[self.experiment.measure], "names": (self.linear.name, "the best constant")}
            # a mean loss grows as a square does: by the square of the factor
            words["worse"] = WORSE if kind == "huber" else WORSE**2
        worse = held_out_note(*(errors[measure] for errors in all_errors), **words)
        if not worse:
            return ()
        problem = self.experiment.problem(self.weight_decay)
        reproduced = interpolation_note(problem, self.result.trajectory.controls) if kind == "squared" else ""
        return (worse, reproduced, _CHOOSE if self.selection is None else _SIMPLIFY)

    def _extrapolation_note(self) -> str:
        experiment = self.experiment
        model = experiment.model(self.result.trajectory.controls)
        outside = model.extrapolation(experiment.dataset.x[experiment.split.test])
        return f"Of the test part {outside}." if outside else ""

    @cached_property
    def posterior(self) -> Posterior | str:
        """That of the solution, or a sentence why there is none."""
        if not isinstance(self.result.problem, TrainingProblem):
            return "there is no posterior of a network with constraints"
        if not self.result.success:
            return f"the posterior is that of a minimum, and the solve ended with {self.result.status.value}"
        try:
            return Posterior.of(
                self.result.problem,
                self.result.trajectory.controls,
                check=not self.result.has_no_negative_curvature,
            )
        except ValueError as error:
            return str(error)

    def errors(self, result: Result) -> dict[str, float]:
        """The measures of the loss on either part: :meth:`.Experiment.errors` of a result's controls."""
        return self.experiment.errors(result.trajectory.controls)

    @cached_property
    def constant(self) -> Baseline:
        """What the best constant reaches."""
        return constant_baseline(self.experiment)

    @property
    def phases_note(self) -> str | None:
        """Why not all iterations were multiple shooting where that was asked for; None where all were."""
        names = phases(self.result.history)
        if self.shooting != "multiple" or self.experiment.network.num_stages == 1:
            return None
        if not any(name in ELIMINATED for name in names):
            return None
        return f"{WHY_ELIMINATED}{WHY_LIFTED if LIFTED_NEWTON in names else ''}"


def summarize(fit: Fit) -> dict[str, Any]:
    """The content of ``summary.json``."""
    data, result = fit.experiment.dataset, fit.result
    problem = fit.experiment.problem(fit.weight_decay)
    return {
        "dataset": data.name,
        "source": data.source,
        "features": data.feature_labels,
        "targets": data.target_names,
        "units": data.units,
        "loss": data.loss,
        "classes": data.classes,
        "num_train": len(fit.experiment.split.train),
        "num_test": len(fit.experiment.split.test),
        "sizes": fit.experiment.network.sizes,
        "activation": fit.activation,
        "weight_decay": fit.weight_decay,
        "weight_decay_selection": _selection(fit),
        "posterior": _posterior(fit),
        "seed": fit.seed,
        "shooting": fit.shooting,
        "tolerance": fit.tolerance,
        "status": result.status.value,
        "message": result.message,
        "notes": [*result.notes, *fit.notes],
        "objective": result.objective,
        "rollout_objective": result.rollout_objective,
        "max_defect": result.max_defect,
        "stationarity": result.stationarity,
        **fit.errors(result),
        "outer_iterations": result.counts["outer"],
        "gauss_newton_steps": result.counts["gauss_newton"],
        "counts": result.counts,
        "phases": {name: asdict(phase) for name, phase in phases(result.history).items()},
        "phases_note": fit.phases_note,
        "collapsed_units": [asdict(layer) for layer in collapsed_units(result.trajectory.states)],
        "seconds": result.seconds,
        "num_weights": problem.network.num_controls,
        **_simpler(fit, problem),
        "reference": _reference(fit),
        "environment": environment(),
    }


def _simpler(fit: Fit, problem: TrainingProblem) -> dict[str, Any]:
    """The simpler models, and for squares how many parameters the data decide."""
    if fit.experiment.loss.name != "squared":
        return {"best_constant": fit.constant.errors, "linear_model": {"name": fit.linear.name, **fit.linear.errors}}
    return {
        "effective_parameters": effective_parameters(problem, fit.result.trajectory.controls),
        "constant_test_rmse": fit.constant.test_rmse,
        "linear_regression": fit.linear.errors,
    }


def _posterior(fit: Fit) -> dict[str, Any]:
    """What follows for the targets, in their own units."""
    posterior = fit.posterior
    if isinstance(posterior, str):
        return {"message": posterior}
    evidence, noise = None, None
    if is_known(posterior.problem.loss):
        units = np.broadcast_to(fit.experiment.y_scaler.scale, (posterior.problem.y.shape[1],))
        evidence = posterior.log_evidence() - posterior.problem.num_samples * float(np.log(units).sum())
        if has_scale(posterior.problem.loss):
            noise = (np.sqrt(posterior.noise_variances) * units).tolist()
    return {"effective_parameters": posterior.effective_parameters, "noise_std": noise, "log_evidence": evidence}


def _selection(fit: Fit) -> dict[str, Any] | None:
    return None if fit.selection is None else {"message": fit.selection.message, **fit.selection.as_dict()}


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


def final_table(fit: Fit, width: int | None = None) -> str:
    """Our solver, IPOPT and simpler models beside each other, in lines of so many characters at most."""
    columns = [_heading(fit, *column.split("_", 1)) for column in _columns(fit)]
    header = ("method", "status", *columns, "objective", "seconds")
    rows = [_row(fit, "AL + Gauss-Newton", fit.result)]
    if fit.reference is not None:
        rows.append(_row(fit, "IPOPT single shooting", fit.reference))
    simpler = (fit.linear,) if fit.experiment.loss.name == "squared" else (fit.linear, fit.constant)
    for model in simpler:
        rows.append((model.name, "solved", *_numbers(fit, model.errors), "-", f"{model.seconds:.2f}"))
    return format_table(header, rows, width)


# What is shown beside the first measure of a loss.
_FURTHER = {"huber": ("test_rmse",), "logistic": ("test_accuracy",), "softmax": ("test_accuracy",)}


def _columns(fit: Fit) -> tuple[str, ...]:
    first = tuple(f"{part}_{fit.experiment.measure}" for part in ("train", "test"))
    return (*first, *_FURTHER.get(fit.experiment.loss.name, ()))


def _heading(fit: Fit, part: str, measure: str) -> str:
    units = fit.experiment.dataset.units if measure in ("rmse", "mean_absolute_error") else ""
    return label(f"{part} {WORDS[measure]}", units)


def _numbers(fit: Fit, errors: dict[str, float]) -> tuple[str, ...]:
    return tuple(format_number(errors[column]) for column in _columns(fit))


def _row(fit: Fit, method: str, result: Result) -> tuple[str, ...]:
    objective = format_number(result.rollout_objective, 7)
    return (method, result.status.value, *_numbers(fit, fit.errors(result)), objective, f"{result.seconds:.2f}")


def write_fit(folder: Path, fit: Fit) -> None:
    """``summary.json``, ``history.csv``, ``model.npz``, and ``convergence``, ``predictions`` and ``layers.png``."""
    experiment, data = fit.experiment, fit.experiment.dataset
    title = f"{data.name}, {shape_text(experiment.network.sizes)}, {fit.result.status.value}"
    write_history(folder / "history.csv", fit.result.history)
    _write_model(folder / "model.npz", fit)
    tolerance = fit.tolerance * max(1.0, fit.result.objective)
    write_figure(folder / "convergence.png", convergence_figure(with_start(fit.result), title, tolerance))
    write_figure(folder / "predictions.png", _predictions(fit, title))
    write_figure(folder / "layers.png", _layers(fit, title))
    write_json(folder / "summary.json", summarize(fit))


def _predictions(fit: Fit, title: str) -> Figure:
    """Predicted over measured; of classes the confusion matrix and the reliability diagram."""
    experiment, data, controls = fit.experiment, fit.experiment.dataset, fit.result.trajectory.controls
    names = {"train": "training", "test": "test"}
    parts = [(name, experiment.measured(p), experiment.predicted(controls, p)) for p, name in names.items()]
    if not data.classes:
        return predictions_figure(parts, data.target_labels, title)
    if data.num_targets == 1:
        parts = [(name, _both(y), _both(p)) for name, y, p in parts]
    return classifier_figure(parts, data.classes, title)


def _both(second: Array) -> Array:
    """The columns of both classes from that of the second."""
    return np.hstack([1.0 - second, second])


def _layers(fit: Fit, title: str) -> Figure:
    problem, trajectory = fit.experiment.problem(fit.weight_decay), fit.result.trajectory
    adjoints = problem.adjoints(problem.rollout(trajectory.controls)).costates
    return layers_figure(fit.experiment.network, trajectory, title, adjoints=adjoints)


def _write_model(path: Path, fit: Fit) -> None:
    """Weights, units and names, without the training data; the rows of the two parts go along, and the posterior."""
    result = replace(fit.result, model=fit.experiment.model(fit.result.trajectory.controls))
    arrays: dict[str, Any] = {"train_rows": fit.experiment.split.train, "test_rows": fit.experiment.split.test}
    if isinstance(fit.posterior, Posterior) and isinstance(fit.experiment.loss, Squared):
        arrays |= CompactPosterior.of(fit.posterior).arrays()
    save(result, path, state=False, arrays=arrays)
