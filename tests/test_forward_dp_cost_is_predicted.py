"""Bytes, operations and the choice of form are predicted, and the prediction is what is measured."""

from __future__ import annotations

import re
import time
import tracemalloc

import numpy as np
import pytest
from long_horizons import horizon
from subproblems import GENERIC, INF, subproblem

from ocp_nn import Network, forward_dp
from ocp_nn.forward_dp.cost import predict_cost

# Wide and narrow, few and many samples, several outputs, deep, generic: (form, network, samples, penalty).
MEMORY_CASES = {
    "dual": ("dual", Network.mlp([3, 10, 10, 1]), 600, 1.0),
    "dual, more samples": ("dual", Network.mlp([3, 10, 10, 1]), 1500, 1.0),
    "dual, four outputs": ("dual", Network.mlp([3, 20, 20, 4]), 300, 1.0),
    "dual, generic stage": ("dual", GENERIC["residual block"], 600, 1.0),
    "dual, deep": ("dual", Network.mlp([1, *[40] * 12, 1]), 300, 1.0),
    "primal": ("primal", Network.mlp([8, 20, 20, 1]), 2000, 1.0),
    "primal, wide": ("primal", Network.mlp([8, 30, 30, 30, 1]), 500, 1.0),
    "primal, five outputs": ("primal", Network.mlp([3, 12, 12, 5]), 3000, 1.0),
    "primal, generic stage": ("primal", GENERIC["residual block"], 5000, 1.0),
    "primal_qr": ("primal_qr", Network.mlp([8, 20, 20, 1]), 5000, 1.0),
    "primal_qr, wide": ("primal_qr", Network.mlp([8, 30, 30, 1]), 300, 1.0),
    "covariance": ("covariance", Network.mlp([3, 8, 8, 1]), 60, 1.0),
    "covariance, deep": ("covariance", Network.mlp([3, 8, 8, 8, 8, 2]), 60, 1.0),
    "covariance, wide": ("covariance", Network.mlp([3, 20, 4]), 40, 1.0),
    "information": ("information", Network.mlp([3, 5, 5, 1]), 40, 1.0),
    "information, deep": ("information", Network.mlp([3, 5, 5, 5, 5, 1]), 40, 1.0),
    "information, one node": ("information", Network.mlp([3, 12, 12, 2]), 20, (1.0, INF)),
}


def traced_peak(work):
    tracemalloc.start()
    try:
        result = work()
        return tracemalloc.get_traced_memory()[1], result
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("case", MEMORY_CASES)
def test_bytes(case):
    form, network, samples, penalty = MEMORY_CASES[case]
    sub = subproblem(network, samples, penalty)
    peak, step = traced_peak(lambda: forward_dp.prepare(sub, form).step(refinements=0))
    returned = sum(a.nbytes for a in (*step.controls, *step.states, *step.multipliers))
    assert 0.6 <= (peak - returned) / predict_cost(sub, form).bytes <= 1.25


@pytest.mark.parametrize("form", ["kalman", "kalman_qr"])
@pytest.mark.parametrize("sizes", [{"stages": 20_000}, {"stages": 3000, "controls": 120, "width": 3}])
def test_bytes_of_the_kalman_form(form, sizes):
    sub = horizon(**sizes, samples=2)
    forward_dp.solve(horizon(2), form)  # loads the compiled loops
    peak, step = traced_peak(lambda: forward_dp.prepare(sub, form).step(refinements=0))
    returned = step.states.nbytes + step.multipliers.costates.nbytes + step.multipliers.theta.nbytes
    assert 0.6 <= (peak - returned) / predict_cost(sub, form).bytes <= 1.25


def test_memory_of_the_primal_form_does_not_grow_with_the_samples():
    network = Network.mlp([4, 12, 12, 1])
    few, many = (subproblem(network, samples) for samples in (10_000, 40_000))
    assert predict_cost(few, "primal").bytes == predict_cost(many, "primal").bytes
    peak_few, peak_many = (traced_peak(lambda sub=sub: forward_dp.prepare(sub, "primal"))[0] for sub in (few, many))
    assert peak_many <= 1.05 * peak_few


@pytest.mark.parametrize(
    ("form", "growth"),
    [
        ("dual", {"depth": 1.0, "samples": 2.0}),
        ("primal", {"samples": 1.0}),
        ("covariance", {"depth": 1.0, "samples": 2.0}),
        ("information", {"depth": 1.0, "samples": 3.0}),
    ],
)
def test_operations_grow_as_the_formulas_say(form, growth):
    def flops(samples, depth):
        return predict_cost(subproblem(Network.mlp([2, *[6] * depth, 1]), samples), form).flops

    # twice as much of what grows, from sizes where the leading term leads but the final Cholesky does not
    samples, depth = (500, 2) if form == "primal" else (200, 32)
    if "depth" in growth:
        assert np.log2(flops(samples, 2 * depth) / flops(samples, depth)) == pytest.approx(growth["depth"], abs=0.1)
    assert np.log2(flops(2 * samples, depth) / flops(samples, depth)) == pytest.approx(growth["samples"], abs=0.15)


# Problems for which one form is far ahead of the other, both ways round.
LOPSIDED = {
    "dual": (Network.mlp([1, 40, 40, 40, 1]), 30),
    "primal": (Network.mlp([2, 5, 1]), 2500),
}


@pytest.mark.parametrize("expected", LOPSIDED)
def test_auto_takes_the_form_that_measures_faster(expected):
    network, samples = LOPSIDED[expected]
    sub = subproblem(network, samples)
    costs = {form: predict_cost(sub, form) for form in ("dual", "primal")}
    other = "primal" if expected == "dual" else "dual"
    assert costs[other].seconds > 20 * costs[expected].seconds
    seconds = {}
    for form in costs:
        start = time.process_time()
        forward_dp.prepare(sub, form).step(refinements=0)
        seconds[form] = time.process_time() - start
    form, reason = forward_dp.choose_form(sub)
    assert form == expected == min(seconds, key=lambda name: seconds[name])
    assert reason.startswith(f"{expected}: ") and other in reason
    assert forward_dp.solve(sub).form == expected
    assert forward_dp.solve(sub).reason == reason


def test_auto_takes_the_other_form_where_memory_is_short():
    network, samples = Network.mlp([1, 30, 30, 1]), 400  # 1,021 controls, 400 outputs
    sub = subproblem(network, samples)
    dual, primal = (predict_cost(sub, form).bytes for form in ("dual", "primal"))
    assert forward_dp.choose_form(sub)[0] == "dual" and dual < primal
    wide = subproblem(Network.mlp([2, 5, 1]), 2500)
    form, reason = forward_dp.choose_form(wide, max_memory=predict_cost(wide, "primal").bytes)
    assert form == "primal" and "would need" in reason


def number(value):
    return re.escape(f"{value:.2e}")


def test_too_large_a_problem_is_refused_in_a_sentence():
    sub = subproblem(Network.mlp([1, 30, 30, 1]), 400)
    dual, primal = (predict_cost(sub, form).bytes for form in ("dual", "primal"))
    with pytest.raises(
        forward_dp.TooLargeError, match=rf"the primal form needs {number(primal)} bytes.*use form='dual'"
    ):
        forward_dp.prepare(sub, "primal", max_memory=1.01 * dual)
    with pytest.raises(forward_dp.TooLargeError, match=r"the information form needs .* raise max_memory; the smallest"):
        forward_dp.solve(sub, "information", max_memory=1e3)
    with pytest.raises(
        forward_dp.TooLargeError, match=f"every form needs .*dual {number(dual)} and primal {number(primal)}"
    ):
        forward_dp.solve(sub, max_memory=1e3)
    assert issubclass(forward_dp.TooLargeError, MemoryError)
