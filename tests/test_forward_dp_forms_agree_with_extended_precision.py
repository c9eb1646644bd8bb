"""Every form gives the minimiser that a dense QR in extended precision gives, to 1e-9, however stiff the weights."""

from __future__ import annotations

import numpy as np
import pytest
from oracles import dense_step, refined_step
from subproblems import DENSE, GENERIC, INF, subproblem

from ocp_nn import forward_dp

PENALTIES = (1e-2, 1.0, 1e4, 1e8, INF)
WEIGHTS = ((1e-3, 0.0), (0.5, 2.0), (1e-8, 0.0), (0.0, 1e-8))
ACCURACY = 1e-9


def relative_error(step, reference):
    difference = np.concatenate(step.controls) - reference
    return float(np.linalg.norm(difference.astype(float)) / np.linalg.norm(reference.astype(float)))


@pytest.fixture(scope="module")
def references():
    """The dense solutions of the table, computed once for all forms."""
    table = {}
    for name, network in (DENSE | GENERIC).items():
        for penalty in PENALTIES:
            for rho, mu in WEIGHTS:
                sub = subproblem(network, 6, penalty, weight_decay=rho, damping=mu)
                table[name, penalty, rho, mu] = sub, dense_step(sub)
    return table


@pytest.mark.parametrize("form", forward_dp.FORMS)
@pytest.mark.parametrize("name", [*DENSE, *GENERIC])
def test_forms_times_problems(references, form, name):
    errors = {
        key[1:]: relative_error(forward_dp.solve(sub, form), reference)
        for key, (sub, reference) in references.items()
        if key[0] == name
    }
    assert max(errors.values()) <= ACCURACY, errors


@pytest.mark.parametrize("form", forward_dp.FORMS)
@pytest.mark.parametrize("penalty", [(1.0, INF, 1e3, INF), (INF, INF, 1e-2, 1.0), (INF, 10.0, INF, 1e8)], ids=str)
def test_mixed_penalties(form, penalty):
    from ocp_nn import Network

    sub = subproblem(Network.mlp([2, 3, 4, 3, 3, 2]), 5, penalty)
    assert relative_error(forward_dp.solve(sub, form), dense_step(sub)) <= ACCURACY


@pytest.mark.parametrize("samples", [3, 40])
def test_more_and_fewer_controls_than_outputs(samples):
    sub = subproblem(DENSE["softplus"], samples)  # 27 controls; 9 and 120 outputs
    reference = dense_step(sub)
    for form in forward_dp.FORMS:
        assert relative_error(forward_dp.solve(sub, form), reference) <= ACCURACY, form


def test_the_reference_for_large_problems_is_the_dense_one():
    sub = subproblem(DENSE["sigmoid with skip connections"], 12, 1e4, weight_decay=1e-6)
    reference = dense_step(sub)
    assert np.linalg.norm(refined_step(sub) - reference) <= 1e-14 * np.linalg.norm(reference)


def test_a_larger_problem_in_its_two_fast_forms():
    from ocp_nn import Network

    sub = subproblem(Network.mlp([4, 15, 15, 15, 2]), 150, 1e4, weight_decay=1e-6)
    reference = refined_step(sub)
    for form in ("dual", "primal"):
        assert relative_error(forward_dp.solve(sub, form), reference) <= ACCURACY, form
