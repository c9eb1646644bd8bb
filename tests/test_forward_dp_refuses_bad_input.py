"""Input that cannot be solved is one clear error; non-finite data name the stage."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from subproblems import DENSE, GENERIC, INF, changed, subproblem

from ocp_nn import forward_dp
from ocp_nn.network.linear_stages import DenseStage, GenericStage


@pytest.fixture
def sub():
    return subproblem(DENSE["tanh, several outputs"], 5)


def with_stage(sub, k, stage):
    return changed(sub, stages=(*sub.stages[:k], stage, *sub.stages[k + 1 :]))


def spoilt(sub, where, k, bad):
    """The subproblem with one bad number in the data of stage k."""
    stage = sub.stages[k]
    if where == "gap" and k < len(sub.gaps):
        gaps = tuple(gap.copy() for gap in sub.gaps)
        gaps[k][1, -1] = bad
        return replace(sub, gaps=gaps)
    if where == "gap":
        residual = sub.residual.copy()
        residual[1, 0] = bad
        return changed(sub, residual=residual)
    if where == "control":
        controls = tuple(u.copy() for u in sub.controls)
        controls[k][0] = bad
        return replace(sub, controls=controls)
    if isinstance(stage, DenseStage):
        x = stage.x.copy()
        x[1, 0] = bad
        return with_stage(sub, k, replace(stage, x=x))
    b = np.array(stage.B)
    b[1, 0, 0] = bad
    return with_stage(sub, k, GenericStage(stage.layer, stage.x, stage.u, stage.A, b))


@pytest.mark.parametrize("form", [*forward_dp.FORMS, "auto"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["gap", "control", "df/du"])
@pytest.mark.parametrize("k", [0, 1, 2])
def test_non_finite_data_name_the_stage(sub, form, bad, where, k):
    with pytest.raises(ValueError, match=f"stage {k}: non-finite values in its {where}"):
        forward_dp.solve(spoilt(sub, where, k, bad), form)


@pytest.mark.parametrize("form", forward_dp.FORMS)
def test_non_finite_generic_stages_too(form):
    sub = subproblem(GENERIC["residual block"], 5)
    with pytest.raises(ValueError, match="stage 2: non-finite values in its df/du"):
        forward_dp.solve(spoilt(sub, "df/du", 2, np.nan), form)


def test_non_finite_weights_name_the_stage_that_uses_them(sub):
    stage = sub.stages[1]
    u = stage.u.copy()
    u[2] = np.nan
    with pytest.raises(ValueError, match="stage 1: non-finite values in its df/dx"):
        forward_dp.solve(with_stage(sub, 1, replace(stage, u=u)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"penalty": (1.0, 0.0)},
            r"penalties and the initial weight must lie in \(0, inf\], received \(1.0, 0.0, inf\)",
        ),
        ({"penalty": (-1.0, INF)}, "penalties and the initial weight must lie in"),
        ({"penalty": (1.0, float("nan"))}, "penalties and the initial weight must lie in"),
        ({"penalty": (1.0,)}, "2 stages of dynamics need 2 gaps, penalties and blocks, received 2, 1 and 2"),
        ({"weight_decay": 0.0, "damping": 0.0}, "must have a positive sum, received 0.0 and 0.0"),
        ({"weight_decay": -1.0, "damping": 2.0}, "weight_decay must be a finite number >= 0"),
        ({"damping": INF}, "damping must be a finite number >= 0"),
        ({"initial_weight": 0.0}, "penalties and the initial weight must lie in"),
        ({"weight_decay": (1.0, 1.0)}, "one number or one for each of 3 blocks, received 2"),
        ({"blocks": (0, 5)}, "stage 1: expected a control block of 16 numbers, received number 5"),
        ({"blocks": (1, 1)}, "stage 0: expected a control block of 9 numbers, received number 1"),
        ({"residual": np.zeros((5, 3))}, r"stage 2: expected a gap of shape \(5, 2\), received \(5, 3\)"),
    ],
)
def test_malformed_subproblems(sub, changes, message):
    with pytest.raises(ValueError, match=message):
        changed(sub, **changes)


def test_trust_leaves_the_checks_out_but_those_of_a_damping(sub):
    wrong = replace(sub, penalty=(1.0, 0.0), trusted=True)
    with pytest.raises(ValueError, match="penalties and the initial weight must lie in"):
        replace(wrong)
    undamped = replace(sub, weight_decay=0.0, damping=0.0, trusted=True)
    with pytest.raises(ValueError, match=r"must have a positive sum, received 0\.0 and 0\.0"):
        undamped.damped(0.0)
    with pytest.raises(ValueError, match="damping must be a finite number >= 0"):
        undamped.damped(-1.0)


@pytest.mark.parametrize("form", forward_dp.FORMS)
def test_trusted_data_that_fit_give_the_same_step(sub, form):
    checked, trusted = (forward_dp.solve(replace(sub, trusted=trusted), form) for trusted in (False, True))
    for kind in ("controls", "states", "multipliers"):
        for a, b in zip(getattr(checked, kind), getattr(trusted, kind), strict=True):
            np.testing.assert_array_equal(a, b)


def test_unknown_forms(sub):
    with pytest.raises(ValueError, match=r"form must be one of auto, information, covariance.*, received 'riccati'"):
        forward_dp.solve(sub, "riccati")


def test_a_failed_factorisation_says_so():
    # 60 equal samples and no damping to speak of: the matrix of the dual form is singular to rounding
    x = np.ones((60, 2))
    sub = subproblem(DENSE["softplus"], 60, INF, weight_decay=1e-40, x=1e6 * x)
    with pytest.raises(np.linalg.LinAlgError, match=r"not positive definite with rho \+ mu = 1.0e-40"):
        forward_dp.solve(sub, "dual")
