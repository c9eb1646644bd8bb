"""What an outer iteration asks of the Kalman form: corrections, curvature, the choice of the form, bad input."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from long_horizons import INF, horizon, one_by_one
from subproblems import DENSE, GENERIC, residual_block, subproblem, two_layers_in_one_stage

from ocp_nn import Network, Symbolic, forward_dp
from ocp_nn.forward_dp import kalman_arrays
from ocp_nn.forward_dp.cost import predict_cost
from ocp_nn.network.stacked_stages import LazyStages, StackedStages

KALMAN = ("kalman", "kalman_qr")


def network_over_time(stages=9, samples=2, *, several_layers=False, penalty=3.0):
    """x + V softplus(W x) at every step, one output layer at every state."""
    rng, width = np.random.default_rng(0), 2
    function, output = residual_block(width), Symbolic(two_layers_in_one_stage(width, 2, 1))
    count = stages if several_layers else 1
    made = [Symbolic(function) for _ in range(count)]
    layers = [made[k % count] for k in range(stages)]
    controls = 0.5 * rng.standard_normal(layers[0].num_controls), 0.5 * rng.standard_normal(output.num_controls)

    def stack(all_layers, u):
        x = rng.standard_normal((len(all_layers), samples, width))
        jacobians = [layer.jacobians(at, u) for layer, at in zip(all_layers, x, strict=True)]
        a, b = (np.stack(part) for part in zip(*jacobians, strict=True))
        return StackedStages(a, b, layers=all_layers, x=x, u=u)

    outputs = stack([output] * (stages + 1), controls[1])
    residual = rng.standard_normal((stages + 1, samples, 1))
    return forward_dp.Subproblem(
        dynamics=stack(layers, controls[0]),
        terms=forward_dp.StackedTerms(outputs, residual, stages=range(stages + 1), block=1),
        controls=controls,
        blocks=np.zeros(stages, dtype=int),
        gaps=rng.standard_normal((stages, samples, width)),
        penalty=np.full(stages, penalty),
        weight_decay=(0.1, 0.3),
        damping=0.1,
        initial_gap=rng.standard_normal((samples, width)),
        initial_weight=2.0,
    )


def parts(step):
    return [np.asarray(part) for kind in (step.controls, step.states, step.multipliers) for part in kind]


@pytest.mark.parametrize("form", KALMAN)
@pytest.mark.parametrize("several_layers", [False, True])
@pytest.mark.parametrize("penalty", [3.0, INF])
def test_corrections_are_those_of_the_condensed_forms(form, several_layers, penalty):
    sub = network_over_time(several_layers=several_layers, penalty=penalty)
    condensed = forward_dp.prepare(one_by_one(sub), "primal").damped()
    damped = forward_dp.prepare(sub, form).damped()
    step, expected = damped.step(), condensed.corrected(condensed.step(), 1e9)
    found = damped.corrected(step, 1e9)
    assert np.abs(found.controls[0] - step.controls[0]).max() > 1e-3
    for ours, theirs in zip(parts(found), parts(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-10)
    assert damped.corrected(step, 1e-9) is step


def test_mean_curvature_needs_no_condensed_sensitivities():
    sub = network_over_time()
    expected = forward_dp.mean_curvature(one_by_one(sub))
    assert forward_dp.mean_curvature(sub) == pytest.approx(expected, rel=1e-10)
    assert forward_dp.prepare(sub, "kalman_qr").condensed.squared_size() == pytest.approx(
        expected * sub.num_controls, rel=1e-10
    )


def test_auto_takes_it_over_long_horizons():
    sub = horizon(400, samples=1)
    form, reason = forward_dp.choose_form(sub)
    assert form == "kalman" and reason.startswith("kalman: ") and "of the primal form" in reason
    assert predict_cost(sub, "primal").seconds > 10 * predict_cost(sub, "kalman").seconds


@pytest.mark.parametrize("network", [*DENSE.values(), *GENERIC.values(), Network.mlp([1, *[3] * 30, 1])])
def test_auto_never_takes_it_for_feed_forward_networks(network):
    for samples in (1, 5, 300):
        form, reason = forward_dp.choose_form(subproblem(network, samples))
        assert form in ("dual", "primal") and "kalman" not in reason


@pytest.mark.parametrize("form", KALMAN)
def test_costs_of_a_stack_are_those_of_its_stages(form):
    sub = horizon(20)
    stacked, single = predict_cost(sub, form), predict_cost(one_by_one(sub), form)
    assert stacked.flops == pytest.approx(single.flops) and stacked.bytes == pytest.approx(single.bytes)
    for other in ("primal", "dual"):
        assert predict_cost(sub, other).flops == pytest.approx(predict_cost(one_by_one(sub), other).flops)


def test_blocks_evaluated_on_demand_are_the_whole(monkeypatch):
    sub = horizon(40)
    asked = []

    def lazy(stages):
        def evaluate(start, stop):
            asked.append((start, stop))
            return stages.block(start, stop)

        shape = (len(stages), stages.num_samples, stages.num_outputs, stages.num_inputs, stages.num_controls)
        return LazyStages(evaluate, shape)

    terms = forward_dp.StackedTerms(lazy(sub.terms.outputs), sub.terms.residual, stages=sub.terms.stages)
    on_demand = replace(sub, dynamics=lazy(sub.dynamics), terms=terms)
    whole = forward_dp.solve(sub, "kalman")
    monkeypatch.setattr(kalman_arrays, "CHUNK_BYTES", 8 * 7 * 3 * 8 * 2)
    asked.clear()
    for a, b in zip(parts(forward_dp.solve(on_demand, "kalman")), parts(whole), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-13)
    assert (0, 7) in asked and (7, 14) in asked


@pytest.mark.parametrize("form", [*KALMAN, "auto"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite_name_their_stage(form, bad):
    sub = horizon(12, missing=0.0)
    gaps = sub.gaps.copy()
    gaps[5, 1, 0] = bad
    with pytest.raises(ValueError, match="stage 5: non-finite values in its gap"):
        forward_dp.solve(replace(sub, gaps=gaps), form)
    b = sub.dynamics.B.copy()
    b[4, 0, 1, 2] = bad
    with pytest.raises(ValueError, match="stage 4: non-finite values in its df/du"):
        forward_dp.solve(replace(sub, dynamics=StackedStages(sub.dynamics.A, b)), form)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"penalty": np.array([1.0, np.nan, 1.0, 1.0])}, r"must lie in \(0, inf\], received \(.*nan.*, 3.0\)"),
        ({"penalty": np.array([1.0, -2.0, 1.0, 1.0])}, r"must lie in \(0, inf\], received \(.*-2.0.*, 3.0\)"),
        ({"penalty": np.ones(3)}, "4 stages of dynamics need 4 gaps, penalties and blocks, received 4, 3 and 4"),
        ({"gaps": np.zeros((4, 3, 5))}, r"stage 0: expected a gap of shape \(3, 2\), received \(3, 5\)"),
        ({"blocks": np.array([0, 0, 7, 0])}, "stage 2: expected a control block of 7 numbers, received number 7"),
        ({"controls": (np.zeros(6),)}, "stage 0: expected a control block of 7 numbers, received number 0"),
    ],
)
def test_malformed_stacks_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(horizon(4), **changes)


def test_terms_of_a_stack_are_in_order_and_end_at_the_last_state():
    terms = horizon(4).terms
    for stages in ([0, 1, 3, 2, 4], [0, 1, 2, 3, 3], [-1, 1, 2, 3, 4]):
        other = forward_dp.StackedTerms(terms.outputs, terms.residual, stages=stages)
        with pytest.raises(ValueError, match="in the order of their stages, the last at stage 4"):
            replace(horizon(4), terms=other)
    with pytest.raises(ValueError, match=r"expected a residual of shape \(5, 3, 1\), received \(4, 3, 1\)"):
        forward_dp.StackedTerms(terms.outputs, terms.residual[:4], stages=range(5))
    with pytest.raises(ValueError, match=r"5 outputs need as many stages and blocks, received \(4,\) and \(5,\)"):
        forward_dp.StackedTerms(terms.outputs, terms.residual, stages=range(4))


STEP = """
import sys, numpy as np
sys.path.insert(0, sys.argv[1])
from long_horizons import horizon
from ocp_nn import forward_dp
from ocp_nn.forward_dp import kalman_arrays
step = forward_dp.solve(horizon(6), "kalman")
print(kalman_arrays.kernels() is not None, repr(float(step.controls[0].sum())))
"""
NO_NUMBA = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name == "numba":
            raise ModuleNotFoundError("No module named 'numba'", name=name)
sys.meta_path.insert(0, Absent())
"""


def in_a_new_process(code, **environment):
    command = [sys.executable, "-W", "error", "-c", code, os.path.dirname(__file__)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, check=False)
    assert done.returncode == 0, done.stderr
    compiled, total = done.stdout.split()
    return compiled == "True", float(total)


def test_without_a_compiler_it_is_the_same_in_numpy():
    expected = float(forward_dp.solve(horizon(6), "kalman").controls[0].sum())
    for code, environment in ((NO_NUMBA + STEP, {}), (STEP, {"NUMBA_DISABLE_JIT": "1"})):
        compiled, total = in_a_new_process(code, **environment)
        assert not compiled and total == pytest.approx(expected, rel=1e-12)


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path):
    file = tmp_path / "not a folder"
    file.write_text("")
    compiled, _ = in_a_new_process(STEP, NUMBA_CACHE_DIR=str(file / "cache"))
    assert compiled


def test_the_first_use_loads_the_compiler_and_the_import_does_not():
    code = "import sys, ocp_nn.forward_dp; assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
