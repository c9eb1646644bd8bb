"""An identified model beside what it is compared with: the table, the summary, the figures, the folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..base.display import brief
from ..learning.data.sequences import SequenceDataset
from ..learning.sequence_metrics import ResidualTests, fit_percent, residual_tests, sequence_rmse
from ..learning.state_space.model import IdentifiedModel
from ..problem.result import Result
from ..problem.saving import save
from .environment import environment
from .files import write_figure, write_history, write_json
from .sequence_figures import correlations_figure, simulation_figure, states_figure
from .tables import format_number
from .text_table import format_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["IDENTIFICATION_FILES", "Identification", "identification_table", "summarize_identification",
           "write_identification"]  # fmt: skip

Array = NDArray[np.float64]

IDENTIFICATION_FILES = "summary.json, history.csv, model.npz, simulation.png, correlations.png, states.png"

# Steps ahead of the predictions that are reported.
AHEAD = (1, 2, 5, 10, 20, 50)


@dataclass(frozen=True, kw_only=True, eq=False)
class Identification:
    """What the command ``identify`` has found.

    Attributes
    ----------
    dataset : SequenceDataset
    model, linear : IdentifiedModel
        Ours, and the linear model of the same order.
    result : Result
        Of the last training, in standard units.
    weight_decay : float
    warm_up : int
        First rows of a record that tell its initial state and are in no figure.
    reference : (IdentifiedModel, Result) or None
        What IPOPT finds from the linear model.
    """

    dataset: SequenceDataset
    model: IdentifiedModel
    linear: IdentifiedModel
    result: Result
    weight_decay: float
    warm_up: int
    reference: tuple[IdentifiedModel, Result] | None = None

    __repr__ = brief

    @property
    def models(self) -> dict[str, IdentifiedModel]:
        """By what the table calls them."""
        named = {"linear model": self.linear, "ours": self.model}
        return named if self.reference is None else named | {"IPOPT, from the linear model": self.reference[0]}

    @property
    def part(self) -> str:
        """What is drawn and tested: the first part to test on, or the training records."""
        return next(iter(self.dataset.tests), "train")

    def pairs(self, part: str) -> Sequence[tuple[Array, Array]]:
        """The records of a part, inputs and outputs."""
        records = self.dataset.train if part == "train" else self.dataset.tests[part]
        return records.pairs

    def simulated(self, model: IdentifiedModel, part: str) -> list[Array]:
        """Free runs: of training records from the states identified, of others from what the warm-up tells."""
        if part == "train":
            starts = zip(self.pairs(part), model.initial_states, strict=True)
            return [model.simulate(v, x0)[0] for (v, _), x0 in starts]
        return [model.run(v, y[: self.warm_up])[0] for v, y in self.pairs(part)]

    def figures_of(self, model: IdentifiedModel, part: str) -> tuple[Array, Array]:
        """RMSE and fit in per cent of every output over all records of a part, after their warm-ups."""
        runs = self.simulated(model, part)
        both = [(y[self.warm_up :], run[self.warm_up :]) for (_, y), run in zip(self.pairs(part), runs, strict=True)]
        measured, simulated = (np.concatenate(some) for some in zip(*both, strict=True))
        return sequence_rmse(measured, simulated), fit_percent(measured, simulated)

    def figures_of_records(self, model: IdentifiedModel, part: str) -> list[tuple[Array, Array] | None]:
        """The same of every record of a part; None where an output was not measured after the warm-up."""
        figures = list[tuple[Array, Array] | None]()
        for (_, y), run in zip(self.pairs(part), self.simulated(model, part), strict=True):
            after, simulated = y[self.warm_up :], run[self.warm_up :]
            is_measured = bool(np.isfinite(after).any(axis=0).all())
            both = (sequence_rmse(after, simulated), fit_percent(after, simulated)) if is_measured else None
            figures.append(both)
        return figures

    @cached_property
    def tests(self) -> ResidualTests:
        """Of the residuals of all records of :attr:`part`."""
        pairs, runs = self.pairs(self.part), self.simulated(self.model, self.part)
        residuals = [y - run for (_, y), run in zip(pairs, runs, strict=True)]
        return residual_tests(residuals, [v for v, _ in pairs], warm_up=self.warm_up)

    def ahead(self) -> dict[int, Array]:
        """RMSE of predictions so many steps ahead, over all records of :attr:`part` that are longer."""
        pairs, theta = self.pairs(self.part), self.model.theta
        scale = self.model.output_scaler.scale
        found = {}
        for steps in AHEAD:
            first, both = max(self.warm_up, steps), []
            for v, y in (pair for pair in pairs if steps < len(pair[1]) - self.warm_up):
                predicted = self.model.system.predict(theta, v, y, steps=steps, measurement_noise=scale)
                both.append((y[first:], predicted[first:]))
            if both:
                found[steps] = sequence_rmse(*(np.concatenate(some) for some in zip(*both, strict=True)))
        return found

    def poles(self) -> NDArray[np.complex128]:
        """Eigenvalues of the linear part of f, where there is one."""
        matrices = self.model.system.matrices(self.model.standard_theta)
        a = matrices["A"] if "A" in matrices else np.zeros((0, 0))
        return np.asarray(np.linalg.eigvals(a), dtype=complex)


def identification_table(found: Identification, width: int | None = None) -> str:
    """One row a model: objective, RMSE and fit on the training records and on every part to test on."""
    parts = ["train", *found.dataset.tests]
    header = ["model", "J", *(f"{part} {what}" for part in parts for what in ("RMSE", "fit %"))]
    objectives = {"ours": found.result.objective}
    if found.reference is not None:
        objectives["IPOPT, from the linear model"] = found.reference[1].objective
    rows = []
    for name, model in found.models.items():
        cells = [name, format_number(objectives[name]) if name in objectives else "-"]
        for part in parts:
            rmse, fit = found.figures_of(model, part)
            cells += [_numbers(rmse, 4), _numbers(fit, 3)]
        rows.append(cells)
    return format_table(header, rows, width)


def _numbers(values: Array, digits: int) -> str:
    return " ".join(f"{value:.{digits}g}" for value in values)


def summarize_identification(found: Identification) -> dict[str, Any]:
    """The content of ``summary.json``."""
    data, tests, result = found.dataset, found.tests, found.result
    parts = ("train", *data.tests)
    figures = {name: {part: _figures(found, model, part) for part in parts} for name, model in found.models.items()}
    return {
        "dataset": data.name,
        "source": data.source,
        "inputs": list(data.input_labels),
        "outputs": list(data.output_labels),
        "sampling_time": data.sampling_time,
        "num_states": found.model.system.num_states,
        "model": found.model.system.describe(),
        "weight_decay": found.weight_decay,
        "warm_up": found.warm_up,
        "status": result.status.value,
        "message": result.message,
        "objective": result.objective,
        "max_defect": result.max_defect,
        "certificate": result.certificate.passed(),
        "seconds": result.seconds,
        "counts": result.counts,
        "figures": figures,
        "steps_ahead": {str(steps): rmse.tolist() for steps, rmse in found.ahead().items()},
        "residuals_white": tests.is_white.tolist(),
        "inputs_outside_bands": tests.share_outside.tolist(),
        "poles": [[float(pole.real), float(pole.imag)] for pole in found.poles()],
        "reference": None if found.reference is None else _reference(found.reference[1]),
        "environment": environment(),
    }


def _figures(found: Identification, model: IdentifiedModel, part: str) -> dict[str, Any]:
    """Of all records of a part together, and of each where there are several."""
    rmse, fit = found.figures_of(model, part)
    together = {"rmse": rmse.tolist(), "fit_percent": fit.tolist()}
    if len(found.pairs(part)) == 1:
        return together
    each = found.figures_of_records(model, part)
    records = [of and {"rmse": of[0].tolist(), "fit_percent": of[1].tolist()} for of in each]
    return together | {"records": records}


def _reference(result: Result) -> dict[str, Any]:
    return {"status": result.status.value, "objective": result.objective, "seconds": result.seconds}


def figures(found: Identification) -> dict[str, Figure]:
    """The figures of a folder, by file name."""
    (_, y), run = found.pairs(found.part)[0], found.simulated(found.model, found.part)[0]
    linear, labels = found.simulated(found.linear, found.part)[0], found.dataset.output_labels
    defects = found.result.problem.defects(found.result.trajectory) if found.result.problem else ()
    return {
        "simulation.png": simulation_figure(y, run, linear, labels, warm_up=found.warm_up, part=found.part),
        "correlations.png": correlations_figure(found.tests, found.dataset.input_labels, labels),
        "states.png": states_figure(
            np.stack(found.result.trajectory.states)[:, 0],
            np.array([np.abs(d[0]).max() for d in defects]),
            {steps: rmse / y.std(axis=0) for steps, rmse in found.ahead().items()},
            found.poles(),
        ),
    }


def write_identification(folder: Path, found: Identification) -> None:
    """Leave :data:`IDENTIFICATION_FILES`; ``model.npz`` is what :func:`ocp_nn.load` reads, with the scalers beside it.

    Raises
    ------
    OSError
        If a file cannot be written.
    """
    model = found.model
    scalers = {
        f"{side}_{name}": getattr(scaler, name)
        for side, scaler in (("input", model.input_scaler), ("output", model.output_scaler))
        for name in ("mean", "scale")
    }
    save(found.result, folder / "model.npz", arrays=scalers)
    write_history(folder / "history.csv", found.result.history)
    for name, figure in figures(found).items():
        write_figure(folder / name, figure)
    write_json(folder / "summary.json", summarize_identification(found))
