"""Stages of equal shape in arrays do what the same stages do one by one."""

from __future__ import annotations

import numpy as np
import pytest
from subproblems import residual_block

from ocp_nn import Symbolic
from ocp_nn.network.linear_stages import GenericStage, linearize_layer
from ocp_nn.network.stacked_stages import LazyStages, StackedStages, stacked

RNG = np.random.default_rng(0)
STAGES, SAMPLES, WIDTH = 6, 4, 2
LAYER = Symbolic(residual_block(WIDTH))
U, X = RNG.standard_normal(LAYER.num_controls), RNG.standard_normal((STAGES, SAMPLES, WIDTH))


def single(k):
    return linearize_layer(LAYER, X[k], U, LAYER.forward(X[k], U))


def held():
    stages = [single(k) for k in range(STAGES)]
    return StackedStages(
        np.stack([s.A for s in stages]), np.stack([s.B for s in stages]), layers=[LAYER] * STAGES, x=X, u=U
    )


def lazy():
    whole = held()
    shape = (STAGES, SAMPLES, WIDTH, WIDTH, LAYER.num_controls)
    return LazyStages(whole.block, shape, layers=whole.layers, x=X, u=U)


def of_single_stages():
    return stacked([single(k) for k in range(STAGES)])


STACKS = {"held": held, "lazy": lazy, "of single stages": of_single_stages}


@pytest.mark.parametrize("make", STACKS.values(), ids=STACKS)
def test_items_are_the_stages(make):
    stack = make()
    assert len(stack) == STAGES and stack.num_samples == SAMPLES and len(list(stack)) == STAGES
    for k in (0, 3, -1):
        item, expected = stack[k], single(range(STAGES)[k])
        assert isinstance(item, GenericStage)
        np.testing.assert_array_equal(item.A, expected.A)
        np.testing.assert_array_equal(item.B, expected.B)
    with pytest.raises(IndexError):
        stack[STAGES]


@pytest.mark.parametrize("make", STACKS.values(), ids=STACKS)
@pytest.mark.parametrize("some", [slice(1, 4), slice(None), slice(-2, None), slice(0, 6, 2), slice(None, None, -1)])
def test_slices_are_stacks(make, some):
    part = make()[some]
    assert isinstance(part, StackedStages)
    np.testing.assert_array_equal(part.A, held().A[some])
    np.testing.assert_array_equal(part.B, held().B[some])
    np.testing.assert_array_equal(part[0].B, held().B[some][0])


@pytest.mark.parametrize("make", STACKS.values(), ids=STACKS)
@pytest.mark.parametrize("size", [None, 1, 4])
def test_blocks_come_in_order_and_make_the_whole(make, size):
    stack = make()
    found = list(stack.blocks(size))
    assert [k for some, _, _ in found for k in range(some.start, some.stop)] == list(range(STAGES))
    np.testing.assert_array_equal(np.concatenate([a for _, a, _ in found]), stack.A)
    np.testing.assert_array_equal(np.concatenate([b for _, _, b in found]), stack.B)


@pytest.mark.parametrize("make", STACKS.values(), ids=STACKS)
def test_products_over_all_stages_are_those_of_each(make):
    stack, dx, eta = make(), RNG.standard_normal(X.shape), RNG.standard_normal(X.shape)
    shared, each = RNG.standard_normal(len(U)), RNG.standard_normal((STAGES, len(U)))
    for du in (shared, each):
        steps = np.broadcast_to(du, each.shape)
        expected = [single(k).apply(dx[k], steps[k]) for k in range(STAGES)]
        np.testing.assert_allclose(stack.apply(dx, du), expected, rtol=0, atol=1e-13)
        expected = [single(k).apply(None, steps[k]) for k in range(STAGES)]
        np.testing.assert_allclose(stack.apply_controls(du), expected, rtol=0, atol=1e-13)
    expected = [single(k).transpose_state(eta[k]) for k in range(STAGES)]
    np.testing.assert_allclose(stack.transpose_state(eta), expected, rtol=0, atol=1e-13)
    total = sum(single(k).transpose_control(eta[k]) for k in range(STAGES))
    np.testing.assert_allclose(stack.transpose_control(eta), total, rtol=0, atol=1e-12)


@pytest.mark.parametrize("make", [held, lazy])
def test_second_derivatives_are_those_of_each_stage(make):
    stack, dx, du = make(), RNG.standard_normal(X.shape), RNG.standard_normal((STAGES, len(U)))
    for steps in (du[0], du):
        each = np.broadcast_to(steps, du.shape)
        expected = [single(k).second_derivative(dx[k], each[k]) for k in range(STAGES)]
        np.testing.assert_allclose(stack.second_derivative(dx, steps), expected, rtol=0, atol=1e-12)
    item, expected = stack[2], single(2)
    for ours, theirs in zip(
        item.curvature_product(dx[1], dx[2], du[0]), expected.curvature_product(dx[1], dx[2], du[0]), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_without_layers_the_stages_are_linear():
    stack = StackedStages(held().A, held().B)
    dx, du = X, U
    assert not stack.second_derivative(dx, du).any() and not stack[1].second_derivative(dx[1], du).any()
    assert not any(part.any() for part in stack[1].curvature_product(dx[0], dx[1], du))
    some = stack[1].rows(slice(1, 3))
    np.testing.assert_array_equal(some.A, stack.A[1, 1:3])
    assert not some.second_derivative(dx[1, 1:3], du).any()


def test_controls_of_different_lengths_are_padded_with_zeros():
    long = GenericStage(LAYER, X[0], U, single(0).A, single(0).B)
    short = GenericStage(LAYER, X[0], U, single(0).A, single(0).B[:, :, :3])
    b = stacked([short, long]).B
    np.testing.assert_array_equal(b[0], np.where(np.arange(len(U)) < 3, single(0).B, 0.0))
    np.testing.assert_array_equal(b[1], single(0).B)


def test_shapes_that_do_not_fit_are_refused():
    whole = held()
    with pytest.raises(ValueError, match=r"expected A of shape \(K, N, n', n\) .* received \(6, 4, 2, 2\) and \(5, 4"):
        StackedStages(whole.A, whole.B[:5])
    with pytest.raises(ValueError, match="with K >= 1"):
        StackedStages(whole.A[:0], whole.B[:0])
    with pytest.raises(ValueError, match=r"expected 6 layers and x of shape \(6, 4, 2\), received 5 and \(6, 4, 2\)"):
        StackedStages(whole.A, whole.B, layers=[LAYER] * 5, x=X, u=U)
    with pytest.raises(ValueError, match=r"expected u of shape \(8,\) or \(6, 8\), received \(3,\)"):
        StackedStages(whole.A, whole.B, layers=[LAYER] * 6, x=X, u=U[:3])
    with pytest.raises(ValueError, match=r"expected the shape \(K, N, n', n, P\) of numbers >= 1"):
        LazyStages(whole.block, (6, 4, 2, 2, 0))
    wrong = LazyStages(lambda start, stop: whole.block(0, 1), (6, 4, 2, 2, 8))
    with pytest.raises(ValueError, match=r"stages 2 to 3: expected A and B of shapes \(2, 4, 2, 2\)"):
        wrong.block(2, 4)
    with pytest.raises(ValueError, match=r"expected stages of one shape \(N, n', n\), received \[\]"):
        stacked([])


def test_a_stack_says_what_it_is_in_one_line():
    assert repr(held()) == "StackedStages(6 stages, samples=4, before=2, after=2, controls=8)"
