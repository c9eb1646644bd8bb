"""What a result has to agree with, written out once more in plain NumPy."""

from __future__ import annotations

import numpy as np

import ocp_nn

from .words import hold

__all__ = ["check_file", "check_model", "check_result", "network_outputs", "same_bits"]

_EPS = float(np.finfo(float).eps)

_PHI = {
    "tanh": np.tanh,
    "sigmoid": lambda a: 1.0 / (1.0 + np.exp(-a)),
    "relu": lambda a: np.where(a > 0, a, 0.0),
    "softplus": lambda a: np.maximum(a, 0.0) + np.log1p(np.exp(-np.abs(a))),
    "identity": lambda a: a,
}


def network_outputs(network, controls, x):
    """Outputs of dense layers, u = vec(W), b, and a bound of their rounding; every phi has a slope of at most one."""
    with np.errstate(all="ignore"):
        error = np.zeros_like(x)
        for layer, u in zip(network.layers, controls, strict=True):
            n, m = layer.num_inputs, layer.num_outputs
            weights, bias = u[: n * m].reshape(n, m), u[n * m :]
            rounding = 4 * (n + 2) * _EPS * (np.abs(x) @ np.abs(weights) + np.abs(bias) + 1.0)
            skipped = (x, error) if layer.residual else (0.0, 0.0)
            output = _PHI[layer.activation](x @ weights + bias) + skipped[0]
            error = error @ np.abs(weights) + skipped[1] + rounding + 4 * _EPS * np.abs(output)
            x = output
    return x, error


def close(ours, theirs, bound):
    """Equal within the bound wherever that is a number."""
    with np.errstate(all="ignore"):
        fine = (np.abs(ours - theirs) <= bound) | ~np.isfinite(bound) | (ours == theirs)
    return bool(np.all(fine))


def check_model(model, x):
    """Predictions are the formula's."""
    with np.errstate(all="ignore"):
        inputs = (x - model.x_scaler.mean) / model.x_scaler.scale
        outputs, error = network_outputs(model.network, model.controls, inputs)
        expected = model.y_scaler.mean + model.y_scaler.scale * outputs
        bound = model.y_scaler.scale * error + 4 * _EPS * (np.abs(expected) + np.abs(model.y_scaler.mean))
    bound = np.maximum(bound, 1e-300)
    hold(close(model.outputs(x), expected, bound), "predictions are not those of the plain formula")


def check_result(result, start=None, tolerance=None, adjoints=True):
    """The status is true, the objective that of its weights and no worse than where the solve began.

    ``tolerance`` is its own where the result does not know it.  Without ``adjoints`` its multipliers may differ from
    those by more: IPOPT claims that each layer is stationary, and over the layers that error grows.
    """
    problem = result.problem
    hold(isinstance(result.status, ocp_nn.Status) and result.message, "a result without a status and its sentence")
    if result.success:
        failures = result.certificate.failures(*([] if tolerance is None else [tolerance]))
        failures = [
            failure for failure in failures if adjoints or not failure.startswith("multipliers are not the adj")
        ]
        hold(not failures, f"converged, but {'; '.join(failures)}")
        hold(np.isfinite(result.rollout_objective), "converged, but the objective is no finite number")
    value, bound = _objective(problem, result.trajectory.controls)
    hold(close(np.array(result.rollout_objective), value, bound), f"objective {result.rollout_objective}, not {value}")
    if start is not None:
        before, bound = _objective(problem, start)
        allowed = (
            result.options.tolerance * max(1.0, before) if result.success else 0.0
        )  # what it was asked to be within
        worse = np.isfinite(before) and not result.rollout_objective <= before + bound + allowed
        hold(not worse, f"the objective rose from {before} to {result.rollout_objective}")


def _objective(problem, controls):
    """J at the rollout, and a bound of its rounding."""
    with np.errstate(all="ignore"):
        outputs, error = network_outputs(problem.network, controls, problem.x)
        residual = outputs - problem.y
        decay = 0.5 * problem.weight_decay * sum(float(u @ u) for u in controls)
        value = 0.5 * float(np.sum(residual**2)) + decay
        bound = float(np.sum((np.abs(residual) + error) * error)) + 100 * len(residual) * _EPS * value
    return value, bound


def check_file(result, folder, x):
    """What was saved is what was found, to the last bit."""
    result.save(folder / "result.npz")
    loaded = ocp_nn.load(folder / "result.npz")
    hold(same_bits(loaded.trajectory.controls, result.trajectory.controls), "saved weights are not those found")
    hold(same_bits(loaded.model.outputs(x), result.model.outputs(x)), "predictions of the saved model differ")
    hold(
        loaded.status is result.status and repr(loaded.history) == repr(result.history),
        "saved status or history differ",
    )


def same_bits(ours, theirs):
    """Whether arrays, or sequences of them, are the same to the last bit; one NaN is like another."""
    if isinstance(ours, tuple | list):
        return len(ours) == len(theirs) and all(map(same_bits, ours, theirs))
    return np.shape(ours) == np.shape(theirs) and bool(np.array_equal(ours, theirs, equal_nan=True))
