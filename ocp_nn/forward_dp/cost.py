"""Predicted cost and memory of each form, by which ``form="auto"`` chooses.

Operations are counted in their leading terms, for one step with one damping.  They become seconds through rates
measured on one core; only the ratio of the rates matters for the choice.  ``scripts/bench_forward_dp.py`` prints
prediction beside measurement.  Bytes are those of the working memory at its peak, beside the subproblem itself and the
step returned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..network.linear_stages import STRIP, DenseStage, LinearStage
from ..network.scaled_stage import unscaled
from ..network.stacked_stages import StackedStages
from .kalman_arrays import has_equal_widths
from .kalman_sweeps import CHUNK_BYTES as KALMAN_CHUNK_BYTES
from .kronecker import is_kronecker
from .subproblem import Subproblem
from .terms import outputs_of

__all__ = ["Cost", "chunk_size", "factor_share", "predict_cost", "predict_costs"]

# Sustained rates of one core: matrix products, Cholesky factorisations, QR, products of small matrices in batches, and
# bytes moved by entrywise passes; and what the calls for one stage take however small it is.  Measured with
# scripts/bench_forward_dp.py on one core with AVX-512.
BLAS_RATE = 40e9
CHOLESKY_RATE = 28e9
QR_RATE = 22e9
BATCH_RATE = 25e9
BYTE_RATE = 8e9
STAGE_SECONDS = 50e-6
# The compiled filter: entrywise passes over the sensitivities of one stage, in cache.
FILTER_RATE = 8e9

# What the Kronecker structure leaves of the normal matrix takes as long as so many rows of the Jacobian (measured).
_KRONECKER_ROWS = 1.5

# Jacobian rows worked on at a time by the primal form, in bytes.
CHUNK_BYTES = 8 * 2**20


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a form is expected to need: floating-point operations, seconds on one core, bytes of working memory."""

    flops: float
    seconds: float
    bytes: float


def chunk_size(subproblem: Subproblem) -> int:
    """Samples whose Jacobian rows fit into one chunk of the primal form."""
    return max(1, CHUNK_BYTES // (8 * subproblem.num_controls * subproblem.num_rows))


def predict_cost(subproblem: Subproblem, form: str) -> Cost:
    """The predicted cost of a form for this subproblem."""
    return predict_costs(subproblem, (form,))[form]


def predict_costs(subproblem: Subproblem, forms: Sequence[str]) -> dict[str, Cost]:
    """The predicted costs of some forms."""
    sizes = _Sizes(subproblem)
    return {form: _PREDICTIONS[form](sizes) for form in forms}


def factor_share(subproblem: Subproblem, form: str) -> float:
    """The predicted part of a step's seconds that its factorisation takes; the rest are sweeps."""
    sizes = _Sizes(subproblem)
    sweeps = sizes.sweep_flops / BLAS_RATE + STAGE_SECONDS * sizes.num_places
    return max(0.0, 1.0 - sweeps / _PREDICTIONS[form](sizes).seconds)


class _Place(NamedTuple):
    """The sizes of a stage or term, and how many are like it."""

    num_inputs: int
    num_outputs: int
    num_controls: int
    is_dense: bool
    copies: int


class _Sizes:
    """The numbers that costs are made of, each looked up once; ``widths`` is what all stages and terms put out."""

    def __init__(self, subproblem: Subproblem) -> None:
        self.subproblem = subproblem
        self.num_samples = subproblem.num_samples
        self.num_rows = subproblem.num_rows
        self.num_controls = subproblem.num_controls
        self.num_places = len(subproblem.dynamics) + len(subproblem.terms)
        self.dynamics = _places(subproblem.dynamics)
        self.outputs = _places(outputs_of(subproblem.terms))
        self.places = self.dynamics + self.outputs
        self.sweep_flops = self._sweep_flops()
        self.widths = sum([place.copies * place.num_outputs for place in self.places])

    def _sweep_flops(self) -> float:
        """Operations of the sweeps of one step: mean, adjoint, back-propagation, states and output sensitivities."""
        total = 0
        for n, after, controls, is_dense, copies in self.places:
            inner = n if is_dense else controls
            total += 2 * copies * after * ((4 + self.num_rows) * n + 3 * inner)
        return float(self.num_samples * total)

    def sensitivities(self, samples: int) -> float:
        """Numbers in the output sensitivities of so many samples."""
        return samples * self.num_rows * self.widths


def _places(stages: Sequence[LinearStage]) -> list[_Place]:
    distinct = (stages[0],) if isinstance(stages, StackedStages) else unscaled(stages)
    copies = len(stages) // max(1, len(distinct))
    return [
        _Place(stage.num_inputs, stage.num_outputs, stage.num_controls, isinstance(stage, DenseStage), copies)
        for stage in distinct
    ]


def _seconds(sizes: _Sizes, flops: float, rate: float, moved: float, factorized: int = 0) -> float:
    cholesky = factorized**3 / 3 / CHOLESKY_RATE
    return flops / rate + cholesky + moved / BYTE_RATE + STAGE_SECONDS * sizes.num_places


def _dual(sizes: _Sizes) -> Cost:
    samples, outputs = sizes.num_samples, sizes.num_rows
    size = samples * outputs
    flops, rows = size**3 / 3 + 2 * size**2 + sizes.sweep_flops, 0
    for n, after, controls, is_dense, copies in sizes.places:
        if is_dense:
            flops += size**2 * after + samples**2 * (n + 1)
        else:
            flops += copies * size**2 * controls
            rows = max(rows, size * controls)
    moved = 8 * size**2 * (1.5 * sizes.num_places + 2)
    strips = min(samples, STRIP) * (outputs * size + samples)
    return Cost(
        flops=flops,
        seconds=_seconds(sizes, flops - size**3 / 3, BLAS_RATE, moved, factorized=size),
        bytes=8 * (2 * size**2 + 2 * sizes.sensitivities(samples) + rows + strips),
    )


def _primal(sizes: _Sizes, *, qr: bool) -> Cost:
    samples, outputs = sizes.num_samples, sizes.num_rows
    controls = sizes.num_controls
    chunk = min(samples, chunk_size(sizes.subproblem))
    kronecker = not qr and is_kronecker(sizes.subproblem)
    rows = _KRONECKER_ROWS if kronecker else outputs
    flops = samples * rows * controls**2 + controls**3 / 3
    flops = 2 * flops if qr else flops
    moved = 8 * 4 * samples * rows * controls
    flops += sizes.sweep_flops
    seconds = _seconds(sizes, flops - controls**3 / 3, BLAS_RATE, moved, factorized=controls)
    return Cost(
        flops=flops,
        seconds=_seconds(sizes, flops, QR_RATE, moved) if qr else seconds,
        bytes=8 * ((5 if qr else 4 if kronecker else 2) * controls**2 + (2 if qr else 1) * chunk * outputs * controls)
        + 16 * sizes.sensitivities(chunk),
    )


def _covariance(sizes: _Sizes) -> Cost:
    samples, outputs = sizes.num_samples, sizes.num_rows
    flops, moved, largest = (samples * outputs) ** 3 / 3, 0.0, 0.0
    for k, stage in enumerate(unscaled(sizes.subproblem.stages)):
        n, n_next = stage.num_inputs if k > 0 else 0, stage.num_outputs  # dx_0 = 0 carries no covariance
        flops += 2 * samples**2 * n_next * n * (n + n_next)
        flops += samples**2 * (n_next if isinstance(stage, DenseStage) else 2 * n_next**2 * stage.num_controls)
        moved += 4 * 8 * (samples * n_next) ** 2
        largest = max(largest, 8 * samples**2 * (n**2 + n_next * n + n_next**2))
    return Cost(flops=flops, seconds=_seconds(sizes, flops, BATCH_RATE, moved), bytes=largest)


def _information(sizes: _Sizes) -> Cost:
    sub, samples = sizes.subproblem, sizes.num_samples
    flops, memory, largest = 0.0, 0.0, 0.0
    known, controls = 0, 0
    for stage, beta in zip(sub.stages, (*sub.penalty, *(1.0 for _ in sub.terms)), strict=True):
        controls += stage.num_controls
        if beta == float("inf"):
            continue
        size = samples * stage.num_outputs
        rows, columns = known + controls + size, known + controls + size
        flops += 2 * rows * columns**2 - 2 * columns**3 / 3
        memory += 8 * rows * columns
        largest = max(largest, 8 * 2 * (rows + size) * columns)
        known, controls = size, 0
    return Cost(flops=flops, seconds=_seconds(sizes, flops, QR_RATE, 0.0), bytes=memory + largest)


def _kalman(sizes: _Sizes, *, qr: bool) -> Cost:
    samples, controls, rows = sizes.num_samples, sizes.num_controls, sizes.num_samples * sizes.num_rows
    filtered, states = 0.0, 0
    for n, after, _, _, copies in sizes.dynamics:
        filtered += 2 * copies * after * n * (controls + n + after)
        states += copies * after
    for n, m, _, _, copies in sizes.outputs:
        filtered += 4 * copies * m * n * (controls + n)
    products = rows * controls**2 * (2 if qr else 1)
    cholesky, rate = controls**3 / 3, QR_RATE if qr else BLAS_RATE
    stagewise = 0 if has_equal_widths(sizes.subproblem) else 6 * sizes.num_places
    return Cost(
        flops=samples * filtered + products + cholesky,
        seconds=samples * filtered / FILTER_RATE
        + products / rate
        + cholesky / CHOLESKY_RATE
        + 8 * 3 * controls * (samples * states + rows) / BYTE_RATE
        + STAGE_SECONDS * (4 + stagewise),
        bytes=_kalman_bytes(sizes, states, qr=qr),
    )


def _kalman_bytes(sizes: _Sizes, states: int, *, qr: bool) -> float:
    """What the filter leaves, and the larger of what it and the passes after it need."""
    samples, size = sizes.num_samples, sizes.num_controls + 1
    kept, widest = 0, 1
    for n, after, _, _, copies in sizes.dynamics:
        kept += copies * after * (n + after)
        widest = max(widest, after)
    for n, m, _, _, copies in sizes.outputs:
        kept += copies * m * (2 * n + m)
    sub, rows = sizes.subproblem, sizes.num_rows * samples
    chunk = min(rows * size, KALMAN_CHUNK_BYTES / 8 * min(1.0, sizes.num_rows / (len(sub.dynamics) + 1) / widest))
    filtering = samples * sub.num_inputs * size + (2 if qr else 1) * chunk
    matrices = (5 if qr else 2) * size**2
    return 8 * (matrices + samples * kept + 4 * sizes.num_places + max(filtering, 2 * (samples * states + rows)))


_PREDICTIONS: dict[str, Callable[[_Sizes], Cost]] = {
    "information": _information,
    "covariance": _covariance,
    "dual": _dual,
    "primal": lambda sizes: _primal(sizes, qr=False),
    "primal_qr": lambda sizes: _primal(sizes, qr=True),
    "kalman": lambda sizes: _kalman(sizes, qr=False),
    "kalman_qr": lambda sizes: _kalman(sizes, qr=True),
}
