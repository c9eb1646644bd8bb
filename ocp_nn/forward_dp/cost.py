"""Predicted cost and memory of each form, by which ``form="auto"`` chooses.

Operations are counted in their leading terms, for one step with one damping.  They become seconds through rates
measured on one core; only the ratio of the rates matters for the choice.  ``scripts/bench_forward_dp.py`` prints
prediction beside measurement.  Bytes are those of the working memory at its peak, beside the subproblem itself and the
step returned.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..network.linear_stages import STRIP, DenseStage
from ..network.scaled_stage import unscaled
from .kronecker import is_kronecker
from .subproblem import Subproblem

__all__ = ["Cost", "chunk_size", "factor_share", "predict_cost"]

# Sustained rates of one core: matrix products, Cholesky factorisations, QR, products of small matrices in batches, and
# bytes moved by entrywise passes; and what the calls for one stage take however small it is.  Measured with
# scripts/bench_forward_dp.py on one core with AVX-512.
BLAS_RATE = 40e9
CHOLESKY_RATE = 28e9
QR_RATE = 22e9
BATCH_RATE = 25e9
BYTE_RATE = 8e9
STAGE_SECONDS = 50e-6

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
    return _PREDICTIONS[form](subproblem)


def factor_share(subproblem: Subproblem, form: str) -> float:
    """The predicted part of a step's seconds that its factorisation takes; the rest are sweeps."""
    sweeps = _sweep_flops(subproblem) / BLAS_RATE + STAGE_SECONDS * len(subproblem.stages)
    return max(0.0, 1.0 - sweeps / predict_cost(subproblem, form).seconds)


def _sensitivities(sub: Subproblem, samples: int) -> float:
    """Numbers in the output sensitivities of so many samples."""
    return samples * sub.num_rows * sum(stage.num_outputs for stage in sub.stages)


def _sweep_flops(sub: Subproblem) -> float:
    """Operations of the sweeps of one step: mean, adjoint, back-propagation, states and the output sensitivities."""
    total = 0
    for stage in unscaled(sub.stages):
        inner = stage.num_inputs if isinstance(stage, DenseStage) else stage.num_controls
        total += 2 * stage.num_outputs * ((4 + sub.num_rows) * stage.num_inputs + 3 * inner)
    return float(sub.num_samples * total)


def _seconds(sub: Subproblem, flops: float, rate: float, moved: float, factorized: int = 0) -> float:
    cholesky = factorized**3 / 3 / CHOLESKY_RATE
    return flops / rate + cholesky + moved / BYTE_RATE + STAGE_SECONDS * len(sub.stages)


def _dual(sub: Subproblem) -> Cost:
    samples, outputs = sub.num_samples, sub.num_rows
    size = samples * outputs
    flops, rows = size**3 / 3 + 2 * size**2 + _sweep_flops(sub), 0
    for stage in unscaled(sub.stages):
        if isinstance(stage, DenseStage):
            flops += size**2 * stage.num_outputs + samples**2 * (stage.num_inputs + 1)
        else:
            flops += size**2 * stage.num_controls
            rows = max(rows, size * stage.num_controls)
    moved = 8 * size**2 * (1.5 * len(sub.stages) + 2)
    strips = min(samples, STRIP) * (outputs * size + samples)
    return Cost(
        flops=flops,
        seconds=_seconds(sub, flops - size**3 / 3, BLAS_RATE, moved, factorized=size),
        bytes=8 * (2 * size**2 + 2 * _sensitivities(sub, samples) + rows + strips),
    )


def _primal(sub: Subproblem, *, qr: bool) -> Cost:
    samples, outputs = sub.num_samples, sub.num_rows
    controls = sub.num_controls
    chunk = min(samples, chunk_size(sub))
    kronecker = not qr and is_kronecker(sub)
    rows = _KRONECKER_ROWS if kronecker else outputs
    flops = samples * rows * controls**2 + controls**3 / 3
    flops = 2 * flops if qr else flops
    moved = 8 * 4 * samples * rows * controls
    flops += _sweep_flops(sub)
    seconds = _seconds(sub, flops - controls**3 / 3, BLAS_RATE, moved, factorized=controls)
    return Cost(
        flops=flops,
        seconds=_seconds(sub, flops, QR_RATE, moved) if qr else seconds,
        bytes=8 * ((5 if qr else 4 if kronecker else 2) * controls**2 + (2 if qr else 1) * chunk * outputs * controls)
        + 16 * _sensitivities(sub, chunk),
    )


def _covariance(sub: Subproblem) -> Cost:
    samples, outputs = sub.num_samples, sub.num_rows
    flops, moved, largest = (samples * outputs) ** 3 / 3, 0.0, 0.0
    for k, stage in enumerate(unscaled(sub.stages)):
        n, n_next = stage.num_inputs if k > 0 else 0, stage.num_outputs  # dx_0 = 0 carries no covariance
        flops += 2 * samples**2 * n_next * n * (n + n_next)
        flops += samples**2 * (n_next if isinstance(stage, DenseStage) else 2 * n_next**2 * stage.num_controls)
        moved += 4 * 8 * (samples * n_next) ** 2
        largest = max(largest, 8 * samples**2 * (n**2 + n_next * n + n_next**2))
    return Cost(flops=flops, seconds=_seconds(sub, flops, BATCH_RATE, moved), bytes=largest)


def _information(sub: Subproblem) -> Cost:
    samples = sub.num_samples
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
    return Cost(flops=flops, seconds=_seconds(sub, flops, QR_RATE, 0.0), bytes=memory + largest)


_PREDICTIONS: dict[str, Callable[[Subproblem], Cost]] = {
    "information": _information,
    "covariance": _covariance,
    "dual": _dual,
    "primal": lambda sub: _primal(sub, qr=False),
    "primal_qr": lambda sub: _primal(sub, qr=True),
}
