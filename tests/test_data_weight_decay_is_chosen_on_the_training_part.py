"""The weight decay is chosen by held-out training samples: reproducibly, sensibly, and as large as it may be."""

from __future__ import annotations

import numpy as np
import pytest

from ocp_nn import Network, TrainingProblem
from ocp_nn.learning.selection import AS_GOOD, _held_out_split, choose_weight_decay

NETWORK = Network.mlp([1, 6, 1])


def noisy_line(noise: float, num_samples: int = 40):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((num_samples, 1))
    return x, 0.8 * x + noise * rng.standard_normal(x.shape)


@pytest.fixture(scope="module")
def selection():
    return choose_weight_decay(NETWORK, *noisy_line(0.6), seed=1)


def test_the_choice_is_the_largest_as_good_as_the_best(selection):
    errors = dict(zip(selection.candidates, selection.errors, strict=True))
    good = [rho for rho, error in errors.items() if error <= AS_GOOD * min(errors.values())]
    assert selection.weight_decay == max(good)
    assert list(selection.candidates) == sorted(selection.candidates, reverse=True)
    assert (selection.num_train, selection.num_validation, selection.repeats) == (40, 8, 3)


def test_it_is_reproducible_and_seeded(selection):
    assert choose_weight_decay(NETWORK, *noisy_line(0.6), seed=1) == selection
    assert choose_weight_decay(NETWORK, *noisy_line(0.6), seed=2).errors != selection.errors


def test_noisier_targets_want_more():
    x, y = noisy_line(0.02)
    assert choose_weight_decay(NETWORK, x, y).weight_decay < choose_weight_decay(NETWORK, *noisy_line(1.5)).weight_decay


def test_errors_are_those_of_samples_not_trained_on():
    """Pure noise cannot be predicted: a held-out error below its deviation would mean that training saw the answers."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((40, 3)), rng.standard_normal((40, 1))
    selection = choose_weight_decay(Network.mlp([3, 20, 1]), x, y, candidates=[1e-3])
    assert selection.errors[0] > 1.2


def test_the_message_says_what_was_chosen_and_from_what(selection):
    message = selection.message
    assert f"weight decay {selection.weight_decay:g}: the largest of those tried whose error" in message
    assert "is within 2 % of the smallest" in message
    assert "8 of the 40 training samples, held out 3 times" in message
    assert all(f"{rho:g}: " in message for rho in selection.candidates)


def test_large_tables_are_sampled(monkeypatch):
    monkeypatch.setattr("ocp_nn.learning.selection.MAX_SAMPLES", 30)
    selection = choose_weight_decay(NETWORK, *noisy_line(0.6), candidates=[1.0])
    assert (selection.num_train, selection.num_used, selection.num_validation) == (40, 30, 6)
    assert "6 of 30 drawn from the 40 training samples" in selection.message
    split = _held_out_split(TrainingProblem(NETWORK, *noisy_line(0.6)), seed=0)
    assert len({*split.train, *split.test}) == 30
    assert not {*split.train} & {*split.test}


def test_bad_input():
    x, y = noisy_line(0.1)
    with pytest.raises(ValueError, match="candidates must be a sequence of at least one"):
        choose_weight_decay(NETWORK, x, y, candidates=[])
    with pytest.raises(ValueError, match="x must have shape"):
        choose_weight_decay(NETWORK, np.ones((40, 2)), y)
    with pytest.raises(ValueError, match="num_samples must be an integer >= 2, received 1"):
        choose_weight_decay(NETWORK, x[:1], y[:1])
