"""Predicted cost and memory of each form, by which ``form="auto"`` chooses.

Operation counts are exact in their leading terms; they become seconds through two rates measured on one core
(``scripts/bench_forward_dp.py`` prints the measured rates beside the prediction).  Only their ratio matters for the choice.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..linearize import DenseStage
from .subproblem import Subproblem

__all__ = ["Cost", "predict_costs"]

# Sustained rates of one core: matrix products and factorisations, QR and small batched products, and
# bytes moved by entrywise passes.  Calibrated with scripts/bench_forward_dp.py.
BLAS_RATE = 30e9
SMALL_RATE = 6e9
BYTE_RATE = 8e9

# Jacobian rows worked on at a time by the primal form, in bytes.
CHUNK_BYTES = 16 * 2**20


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a form is expected to need: floating-point operations, seconds on one core, bytes of working memory."""

    flops: float
    seconds: float
    bytes: float


def chunk_size(subproblem: Subproblem) -> int:
    """Samples whose Jacobian rows fit into one chunk of the primal form."""
    return max(1, CHUNK_BYTES // (8 * subproblem.num_controls * subproblem.num_outputs))


def predict_costs(subproblem: Subproblem) -> dict[str, Cost]:
    """The predicted cost of every form for this subproblem."""
    return {
        "information": _information(subproblem),
        "covariance": _covariance(subproblem),
        "dual": _dual(subproblem),
        "primal": _primal(subproblem, qr=False),
        "primal_qr": _primal(subproblem, qr=True),
    }


def _dual(sub: Subproblem) -> Cost:
    samples, outputs = sub.residual.shape
    size = samples * outputs
    flops = size**3 / 3
    for stage in sub.stages:
        if isinstance(stage, DenseStage):
            flops += size**2 * stage.num_outputs + samples**2 * stage.num_inputs
        else:
            flops += 2 * size**2 * stage.num_controls
    moved = 8 * size**2 * (2 * len(sub.stages) + 3)
    return Cost(flops=flops, seconds=flops / BLAS_RATE + moved / BYTE_RATE, bytes=8 * 2 * size**2)


def _primal(sub: Subproblem, *, qr: bool) -> Cost:
    samples, outputs = sub.residual.shape
    controls = sub.num_controls
    flops = samples * outputs * controls**2 * (2 if qr else 1) + controls**3 * (2 if qr else 1 / 3)
    moved = 8 * 3 * samples * outputs * controls
    rows = min(samples, chunk_size(sub)) * outputs
    return Cost(
        flops=flops,
        seconds=flops / (BLAS_RATE / 2 if qr else BLAS_RATE) + moved / BYTE_RATE,
        bytes=8 * (3 * controls**2 + 2 * rows * controls),
    )


def _covariance(sub: Subproblem) -> Cost:
    samples, outputs = sub.residual.shape
    flops, memory = (samples * outputs) ** 3 / 3, 0.0
    for k, stage in enumerate(sub.stages):
        n, n_next = stage.num_inputs, stage.num_outputs
        if k > 0:
            flops += 2 * samples**2 * n_next * n * (n + n_next)
        flops += samples**2 * (n_next if isinstance(stage, DenseStage) else 2 * n_next**2 * stage.num_controls)
        memory += 8 * (samples * n_next) ** 2
    return Cost(flops=flops, seconds=flops / SMALL_RATE + 4 * memory / BYTE_RATE, bytes=3 * memory)


def _information(sub: Subproblem) -> Cost:
    samples = sub.num_samples
    flops, memory, largest = 0.0, 0.0, 0.0
    known, controls = 0, 0
    for stage, beta in zip(sub.stages, (*sub.penalty, 1.0), strict=True):
        controls += stage.num_controls
        if beta == float("inf"):
            continue
        size = samples * stage.num_outputs
        rows, columns = known + controls + size, known + controls + size + 1
        flops += 2 * rows * columns**2 - 2 * columns**3 / 3
        memory += 8 * (known + controls) * columns
        largest = max(largest, 8 * 3 * rows * columns)
        known, controls = size, 0
    return Cost(flops=flops, seconds=flops / SMALL_RATE, bytes=memory + largest)
