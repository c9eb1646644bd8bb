"""A model of a classifier or of counts predicts probabilities or rates: from solvers, from files, at any logit."""

from __future__ import annotations

import json
import pickle
import re
from dataclasses import replace

import casadi as ca
import losses
import numpy as np
import pytest
from scipy import special

import ocp_nn
from ocp_nn import LoadError, Model, Network, Options, multiple_shooting, solve, solve_ipopt
from ocp_nn.learning.data import Scaler
from ocp_nn.network.links import LINKS, link_named
from ocp_nn.problem.losses import LOSSES, loss_named

OUTPUTS = {"identity": 2, "logistic": 1, "softmax": 3, "log": 2}
EXTREME = np.array([[0.0, 1000.0, -1000.0], [1.0, 2.0, -40.0], [-1000.0, -1000.0, -1000.0], [700.0, -700.0, 0.0]])
# the mean of a target whose linear predictor is z
MEAN = {
    "identity": lambda z: z,
    "logistic": special.expit,
    "softmax": lambda z: special.softmax(z, axis=1),
    "log": np.exp,
}


def linear(link, classes=(), outputs=None, **further) -> Model:
    """Outputs that are the inputs, up to their number."""
    outputs = outputs or OUTPUTS[link]
    network = Network.mlp([3, outputs])
    controls = [np.concatenate([np.eye(outputs, 3).ravel(order="F"), np.zeros(outputs)])]
    return Model(network, controls, link=link, classes=classes, **further)


# --- what is predicted


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("solver", ["our own", "ipopt"])
def test_solvers_give_a_model_of_means(name, solver):
    problem = losses.problem(name, samples=20, hidden=(3,))
    result = solve(problem) if solver == "our own" else solve_ipopt(multiple_shooting(problem))
    raw = problem.network.predict(result.trajectory.controls, problem.x)
    np.testing.assert_allclose(result.predict(problem.x), MEAN[problem.loss.link](raw), rtol=1e-12, atol=1e-300)
    np.testing.assert_array_equal(result.model.raw_outputs(problem.x), raw)


@pytest.mark.parametrize("name", LOSSES)
def test_the_link_takes_the_best_constant_to_the_mean(name):
    """The canonical links: the mean of the targets is what the constant of least loss predicts; Huber's has none."""
    problem = losses.problem(name)
    loss = loss_named(name)
    best = loss.best_constant(problem.y, np.ones(len(problem.y)))
    mean = problem.y.mean(axis=0)
    found = LINKS[loss.link].value(best[None])[0]
    if name == "huber":
        assert loss.link == "identity"
    else:
        np.testing.assert_allclose(found, mean, rtol=1e-12)


@pytest.mark.parametrize("name", ["logistic", "softmax"])
def test_logits_of_any_size_give_probabilities(name):
    model = linear(name)
    found = model.predict(EXTREME)
    np.testing.assert_array_equal(found, MEAN[name](EXTREME[:, : OUTPUTS[name]]))
    assert ((found >= 0) & (found <= 1)).all()
    if name == "softmax":
        np.testing.assert_allclose(found.sum(axis=1), 1.0, rtol=1e-15)


def test_rates_beyond_any_number_are_refused():
    model = linear("log")
    np.testing.assert_array_equal(model.predict([[-1000.0, 0.0, 0.0]]), [[0.0, 1.0]])
    assert np.isinf(model.outputs([[0.0, 1000.0, 0.0]])).any()
    with pytest.raises(ValueError, match="sample 2 is no finite number"):
        model.predict([[0.0, 0.0, 0.0], [0.0, 1000.0, 0.0]])


@pytest.mark.parametrize("name", LINKS)
def test_the_symbolic_form_is_the_numpy_form(name):
    rng = np.random.default_rng(0)
    z = ca.MX.sym("z", 3)
    f = ca.Function("f", [z], [link_named(name).symbolic(z)])
    rows = np.vstack([rng.normal(0, 3, (20, 3)), np.zeros((1, 3)), EXTREME[:3] if name != "log" else EXTREME[1:2]])
    np.testing.assert_allclose(np.array(f(rows.T)).T, LINKS[name].value(rows), rtol=1e-14, atol=0)


@pytest.mark.parametrize("name", LINKS)
def test_the_symbolic_form_has_the_right_slope_at_ties_and_far_out(name):
    z = ca.MX.sym("z", 3)
    slope = ca.Function("J", [z], [ca.jacobian(link_named(name).symbolic(z), z)])
    for point in ([0.0, 0.0, 0.0], [0.3, -0.2, 0.3]):
        steps = np.array(point) + 1e-6 * np.vstack([np.eye(3), -np.eye(3)])
        values = LINKS[name].value(steps)
        np.testing.assert_allclose(slope(point).full().T, (values[:3] - values[3:]) / 2e-6, atol=1e-9)
    if name != "log":
        assert np.isfinite(slope([1000.0, -1000.0, 0.0]).full()).all()


# --- classes


@pytest.mark.parametrize(
    ("link", "classes", "expected"),
    [
        ("logistic", ("no", "yes"), ["no", "yes", "no", "yes"]),
        ("softmax", (10, 20, 30), [20, 20, 10, 10]),
        ("softmax", (0.5, 1, 2), [1.0, 1.0, 0.5, 0.5]),
        ("softmax", np.array(["a", "b", "c"]), ["b", "b", "a", "a"]),
    ],
)
def test_the_class_is_that_of_the_largest_probability(link, classes, expected):
    model = linear(link, classes)
    labels = model.classify(EXTREME)
    assert labels.tolist() == expected
    assert labels.dtype.kind == np.array(classes).dtype.kind


def test_classes_are_told_apart_where_probabilities_are_rounded_to_one():
    labels = linear("softmax", ("a", "b", "c")).classify([[1000.0, 1000.1, 0.0], [-800.0, -900.0, 0.0]])
    assert labels.tolist() == ["b", "c"]


def test_outputs_are_named_after_their_classes():
    assert linear("softmax", (1, 2, 3)).targets == ("1", "2", "3")
    assert linear("logistic", ("no", "yes")).targets == ("yes",)
    assert linear("logistic", ("no", "yes"), targets=["answer"]).targets == ("answer",)
    assert linear("log").targets == ("y0", "y1")
    assert repr(linear("logistic", ("no", "yes"))).endswith("-> yes, logistic)")


def test_without_classes_there_is_nothing_to_name():
    with pytest.raises(ValueError, match="classify needs a model with classes, received one without"):
        linear("softmax").classify(EXTREME)


def test_far_inputs_are_said_once_by_classify_too():
    model = linear("softmax", (1, 2, 3), x_range=[[-1, -1, -1], [1, 1, 1]])
    with pytest.warns(ocp_nn.ExtrapolationWarning, match="lie far outside") as caught:
        model.classify(EXTREME)
    assert caught[0].filename == __file__
    model.predict(EXTREME)


@pytest.mark.parametrize(
    ("link", "classes", "further", "words"),
    [
        ("probit", (), {}, "link must be one of identity, logistic, softmax, log, received 'probit'"),
        (None, (), {}, "link must be one of identity, logistic, softmax, log, received None"),
        ("softmax", ("a", "b"), {}, "classes: expected 3 for 3 output(s) with the link 'softmax', received 2"),
        ("logistic", ("a",), {}, "classes: expected 2 for 1 output(s) with the link 'logistic', received 1"),
        ("logistic", ("a", "b"), {"outputs": 2}, "classes: expected none for 2 output(s)"),
        ("identity", ("a", "b"), {}, "classes: expected none for 2 output(s) with the link 'identity', received 2"),
        ("log", (1, 2), {}, "classes: expected none for 2 output(s) with the link 'log', received 2"),
        ("softmax", ("a", "b", "a"), {}, "classes must differ from each other, received ('a', 'b', 'a')"),
        ("softmax", ("a", "b", 3), {}, "classes must be all texts or all numbers, received ('a', 'b', 3)"),
        ("softmax", (1, 2, np.nan), {}, "classes must be a sequence of labels (texts, or finite numbers), received "),
        ("softmax", "abc", {}, "classes must be a sequence of labels (texts, or finite numbers), received 'abc'"),
        (
            "logistic", ("a", "b"), {"y_scaler": Scaler(np.zeros(1), np.array([2.0]))},
            "y_scaler must be the identity where the link is 'logistic', received mean array([0.]) and scale "
            "array([2.]): probabilities and counts are not standardised",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_sentence(link, classes, further, words):
    outputs = further.pop("outputs", OUTPUTS.get(link, 3))
    with pytest.raises(ValueError, match=re.escape(words)) as error:
        linear(link, classes, outputs, **further)
    assert "\n" not in str(error.value)


# --- files


def saved(folder, **changes):
    """A result whose model has classes, as a file."""
    problem = losses.problem("softmax", samples=20, hidden=(3,))
    result = solve(problem, options=Options(max_outer=2))
    result = replace(result, model=replace(result.model, classes=("a", "b", "nan"), targets=()))
    result.save(folder / "r.npz")
    if changes:
        with np.load(folder / "r.npz") as file:
            arrays = dict(file)
        arrays.pop("meta_sha256")
        meta = json.loads(str(arrays["meta"])) | changes
        np.savez(folder / "r.npz", **arrays | {"meta": np.array(json.dumps(meta))})
    return problem, result


def test_files_keep_link_and_classes(tmp_path):
    problem, result = saved(tmp_path)
    loaded = ocp_nn.load(tmp_path / "r.npz")
    assert (loaded.model.link, loaded.model.classes) == ("softmax", ("a", "b", "nan"))
    assert loaded.predict(problem.x).tobytes() == result.predict(problem.x).tobytes()
    ends = [solve(problem, start, options=Options(max_outer=4)) for start in (result, loaded)]
    assert ends[0].trajectory.controls[0].tobytes() == ends[1].trajectory.controls[0].tobytes()


def test_files_of_before_there_were_links_have_none(tmp_path):
    problem, _ = saved(tmp_path)
    with np.load(tmp_path / "r.npz") as file:
        arrays = dict(file)
    arrays.pop("meta_sha256")
    meta = {k: v for k, v in json.loads(str(arrays["meta"])).items() if k not in ("link", "classes")}
    np.savez(tmp_path / "r.npz", **arrays | {"meta": np.array(json.dumps(meta))})
    model = ocp_nn.load(tmp_path / "r.npz").model
    assert (model.link, model.classes) == ("identity", ())
    np.testing.assert_array_equal(model.predict(problem.x), model.raw_outputs(problem.x))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"link": "probit"}, "has 'probit' for 'link', expected one of identity, logistic, softmax, log"),
        ({"link": 3}, "has 3 for 'link'"),
        ({"classes": ["a", "b"]}, "expected 3 for 3 output(s) with the link 'softmax', received 2"),
        ({"classes": ["a", "b", ["c"]]}, "for 'classes', expected a list, each text or a number"),
        ({"classes": ["a", "b", True]}, "for 'classes', expected a list, each text or a number"),
        ({"classes": "abc"}, "has 'abc' for 'classes', expected a list"),
        ({"classes": ["a", "b", "b"]}, "classes must differ from each other"),
        ({"link": "logistic"}, "expected none for 3 output(s) with the link 'logistic', received 3"),
    ],
)
def test_damaged_links_and_classes_are_refused(changes, words, tmp_path):
    saved(tmp_path, **changes)
    with pytest.raises(LoadError, match=re.escape(words)) as error:
        ocp_nn.load(tmp_path / "r.npz")
    assert "\n" not in str(error.value)


def test_pickles_keep_them_too():
    model = pickle.loads(pickle.dumps(linear("softmax", ("a", "b", "c"))))
    assert (model.link, model.classes) == ("softmax", ("a", "b", "c"))
    assert pickle.loads(pickle.dumps(LINKS["log"])) is LINKS["log"]
