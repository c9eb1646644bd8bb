"""Records of several lengths are one padded batch, and stand in units of their standard deviations over all of them."""

from __future__ import annotations

import numpy as np
import pytest

from ocp_nn.network.records import Records


def two() -> Records:
    rng = np.random.default_rng(0)
    y = 5 + 2 * rng.standard_normal((8, 2))
    y[3, 1] = np.nan
    return Records.checked([(rng.standard_normal((8, 1)), y), (rng.standard_normal(3), rng.standard_normal((3, 2)))])


def test_a_batch_is_its_records_and_nothing_else():
    records = two()
    v, y, measured = records.batch()
    assert v.shape == (8, 2, 1) and y.shape == (8, 2, 2) and measured.shape == (8, 2, 2)
    for i, length in enumerate(records.lengths):
        np.testing.assert_array_equal(v[:length, i], records.inputs[i])
        np.testing.assert_array_equal(np.where(measured, y, np.nan)[:length, i], records.outputs[i])
    assert not measured[3:, 1].any() and not y[3:, 1].any()
    np.testing.assert_array_equal(v[3:, 1], np.broadcast_to(records.inputs[1][-1], (5, 1)))
    assert measured.sum() == records.num_measured == 8 * 2 - 1 + 3 * 2


def test_scaled_records_have_unit_variance_and_come_back():
    records = two()
    inputs, outputs = records.scalers()
    scaled = records.scaled(inputs, outputs)
    together = np.concatenate(scaled.outputs)
    np.testing.assert_allclose(np.nanmean(together, axis=0), 0, atol=1e-14)
    np.testing.assert_allclose(np.nanstd(together, axis=0), 1, rtol=1e-14)
    np.testing.assert_allclose(np.concatenate(scaled.inputs).std(), 1, rtol=1e-14)
    for y, back in zip(records.outputs, map(outputs.inverse, scaled.outputs), strict=True):
        np.testing.assert_allclose(back, y, rtol=1e-13)


@pytest.mark.parametrize("v", [None, np.empty((4, 0))])
def test_autonomous_records_have_inputs_of_no_width(v):
    records = Records.checked([(v, np.arange(4.0)), (v, np.arange(4.0))])
    assert records.num_inputs == 0 and records.num_outputs == 1
    assert records.batch()[0].shape == (4, 2, 0)
    scaled = records.scaled(*records.scalers())
    assert scaled.inputs[0].shape == (4, 0)
    assert repr(records) == "Records(2 of 4, 4 samples, 0 inputs, 1 outputs)"


def test_checked_records_pass_unchanged():
    records = two()
    again = Records.checked(records)
    assert again.lengths == records.lengths
    np.testing.assert_array_equal(again.outputs[0], records.outputs[0])
