"""Predicted cost and memory of each form, by which ``form="auto"`` chooses.

Operations are counted in their leading terms, for one step with one damping.  They become seconds through rates
measured on one core; only the ratio of the rates matters for the choice.  ``scripts/bench_forward_dp.py`` prints
prediction beside measurement.  Bytes are those of the working memory at its peak, beside the subproblem itself and the
step returned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ..network.linear_stages import STRIP, DenseStage, LinearStage
from ..network.scaled_stage import unscaled
from ..network.stacked_stages import StackedStages
from .kalman_arrays import has_equal_widths
from .kalman_sweeps import CHUNK_BYTES as KALMAN_CHUNK_BYTES
from .subproblem import Subproblem
from .terms import StackedTerms

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
# The compiled filter: entrywise passes over the sensitivities of one stage, in cache.
FILTER_RATE = 8e9

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
    sweeps = _sweep_flops(subproblem) / BLAS_RATE + STAGE_SECONDS * _num_places(subproblem)
    return max(0.0, 1.0 - sweeps / predict_cost(subproblem, form).seconds)


def _outputs(sub: Subproblem) -> Sequence[LinearStage]:
    return sub.terms.outputs if isinstance(sub.terms, StackedTerms) else tuple([term.output for term in sub.terms])


def _counted(stages: Sequence[LinearStage]) -> Iterator[tuple[LinearStage, int]]:
    """Stages, and how many are like each."""
    if isinstance(stages, StackedStages):
        yield stages[0], len(stages)
    else:
        yield from ((stage, 1) for stage in unscaled(stages))


def _places(sub: Subproblem) -> Iterator[tuple[LinearStage, int]]:
    """Stages and outputs, counted."""
    yield from _counted(sub.dynamics)
    yield from _counted(_outputs(sub))


def _num_places(sub: Subproblem) -> int:
    return len(sub.dynamics) + len(sub.terms)


def _sensitivities(sub: Subproblem, samples: int) -> float:
    """Numbers in the output sensitivities of so many samples."""
    return samples * sub.num_rows * sum(count * stage.num_outputs for stage, count in _places(sub))


def _sweep_flops(sub: Subproblem) -> float:
    """Operations of the sweeps of one step: mean, adjoint, back-propagation, states and the output sensitivities."""
    total = 0
    for stage, count in _places(sub):
        inner = stage.num_inputs if isinstance(stage, DenseStage) else stage.num_controls
        total += 2 * count * stage.num_outputs * ((4 + sub.num_rows) * stage.num_inputs + 3 * inner)
    return float(sub.num_samples * total)


def _seconds(sub: Subproblem, flops: float, rate: float, moved: float, factorized: int = 0) -> float:
    cholesky = factorized**3 / 3 / CHOLESKY_RATE
    return flops / rate + cholesky + moved / BYTE_RATE + STAGE_SECONDS * _num_places(sub)


def _dual(sub: Subproblem) -> Cost:
    samples, outputs = sub.num_samples, sub.num_rows
    size = samples * outputs
    flops, rows = size**3 / 3 + 2 * size**2 + _sweep_flops(sub), 0
    for stage, count in _places(sub):
        if isinstance(stage, DenseStage):
            flops += size**2 * stage.num_outputs + samples**2 * (stage.num_inputs + 1)
        else:
            flops += count * size**2 * stage.num_controls
            rows = max(rows, size * stage.num_controls)
    moved = 8 * size**2 * (1.5 * _num_places(sub) + 2)
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
    flops = samples * outputs * controls**2 + controls**3 / 3
    flops = 2 * flops if qr else flops
    moved = 8 * 4 * samples * outputs * controls
    flops += _sweep_flops(sub)
    seconds = _seconds(sub, flops - controls**3 / 3, BLAS_RATE, moved, factorized=controls)
    return Cost(
        flops=flops,
        seconds=_seconds(sub, flops, QR_RATE, moved) if qr else seconds,
        bytes=8 * ((5 if qr else 2) * controls**2 + (2 if qr else 1) * chunk * outputs * controls)
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


def _kalman(sub: Subproblem, *, qr: bool) -> Cost:
    samples, controls, rows = sub.num_samples, sub.num_controls, sub.num_samples * sub.num_rows
    filtered, states = 0.0, 0
    for stage, count in _counted(sub.dynamics):
        n, after = stage.num_inputs, stage.num_outputs
        filtered += 2 * count * after * n * (controls + n + after)
        states += count * after
    for output, count in _counted(_outputs(sub)):
        n, m = output.num_inputs, output.num_outputs
        filtered += 4 * count * m * n * (controls + n)
    products = rows * controls**2 * (2 if qr else 1)
    cholesky, rate = controls**3 / 3, QR_RATE if qr else BLAS_RATE
    stagewise = 0 if has_equal_widths(sub) else 6 * _num_places(sub)
    return Cost(
        flops=samples * filtered + products + cholesky,
        seconds=samples * filtered / FILTER_RATE
        + products / rate
        + cholesky / CHOLESKY_RATE
        + 8 * 3 * controls * (samples * states + rows) / BYTE_RATE
        + STAGE_SECONDS * (4 + stagewise),
        bytes=_kalman_bytes(sub, states, qr=qr),
    )


def _kalman_bytes(sub: Subproblem, states: int, *, qr: bool) -> float:
    """What the filter leaves, and the larger of what it and the passes after it need."""
    samples, size = sub.num_samples, sub.num_controls + 1
    kept, widest = 0, 1
    for stage, count in _counted(sub.dynamics):
        kept += count * stage.num_outputs * (stage.num_inputs + stage.num_outputs)
        widest = max(widest, stage.num_outputs)
    for output, count in _counted(_outputs(sub)):
        kept += count * output.num_outputs * (2 * output.num_inputs + output.num_outputs)
    rows = sub.num_rows * samples
    chunk = min(rows * size, KALMAN_CHUNK_BYTES / 8 * min(1.0, sub.num_rows / (len(sub.dynamics) + 1) / widest))
    filtering = samples * sub.num_inputs * size + (2 if qr else 1) * chunk
    matrices = (5 if qr else 2) * size**2
    return 8 * (matrices + samples * kept + 4 * _num_places(sub) + max(filtering, 2 * (samples * states + rows)))


_PREDICTIONS: dict[str, Callable[[Subproblem], Cost]] = {
    "information": _information,
    "covariance": _covariance,
    "dual": _dual,
    "primal": lambda sub: _primal(sub, qr=False),
    "primal_qr": lambda sub: _primal(sub, qr=True),
    "kalman": lambda sub: _kalman(sub, qr=False),
    "kalman_qr": lambda sub: _kalman(sub, qr=True),
}
