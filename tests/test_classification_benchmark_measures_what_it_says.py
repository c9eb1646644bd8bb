"""The classification benchmark: one search for all methods, one objective and its true gradient, tables that add up."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import check_grad

pytest.importorskip("sklearn")

SCRIPTS = str(Path(__file__).parents[1] / "scripts")


@pytest.fixture(scope="module")
def suite():
    sys.path.insert(0, SCRIPTS)
    try:
        import bench_classification
        import deep_suite
        from bench_suite import classification, classification_tables, peers
    finally:
        sys.path.remove(SCRIPTS)
    bench_classification.parts = classification, classification_tables, peers, deep_suite
    return bench_classification


@pytest.fixture(scope="module")
def results(suite, tmp_path_factory):
    folder = tmp_path_factory.mktemp("classification")
    suite.main(["--quick", "--limit", "0.2", "--json", str(folder / "c.json"), "--markdown", str(folder / "c.md")])
    return json.loads((folder / "c.json").read_text()), (folder / "c.md").read_text()


def test_every_method_is_judged_on_the_same_folds(results):
    content, text = results
    methods = {"ours", "MLPClassifier lbfgs", "MLPClassifier adam"}
    assert {(r["dataset"], r["fold"], r["method"]) for r in content["folds"]} == {
        ("iris", fold, method) for fold in (0, 1) for method in methods
    }
    for row in content["folds"]:
        assert row["weight_decay"] in (3.0, 0.3) and 0.0 < row["log_loss"] < 0.5 and row["accuracy"] > 0.85
    assert "| iris | ours |" in text and "### Seconds to 5 % above the best known objective" in text


def test_all_start_from_the_same_objective(results):
    content, _ = results
    first = {row["peer"]: row["trace"][0]["objective"] for row in content["timed"]}
    assert {"ours", "single-shooting LM", "SciPy L-BFGS", "scikit-learn L-BFGS"} <= first.keys()
    assert max(first.values()) == pytest.approx(min(first.values()), rel=1e-12)
    deep = {row["peer"]: row["trace"][0]["objective"] for row in content["deep"]}
    assert max(deep.values()) == pytest.approx(min(deep.values()), rel=1e-12)


@pytest.mark.parametrize("number", [0, 2])
def test_the_peers_get_the_gradient_of_the_log_loss(suite, number):
    classification, _, _, deep_suite = suite.parts
    problem = classification.TIMED[number].training()
    problem = problem.part(np.arange(0, problem.num_samples, 10), 1.0)
    rng = np.random.default_rng(0)
    flat = np.concatenate(problem.network.init_controls(0))
    direction = rng.standard_normal(len(flat)) / np.sqrt(len(flat))
    along = lambda t: deep_suite.objective_and_gradient(problem, flat + t[0] * direction)  # noqa: E731
    error = check_grad(lambda t: along(t)[0], lambda t: [along(t)[1] @ direction], np.zeros(1))
    assert error < 1e-5 * abs(along(np.zeros(1))[1] @ direction)


def test_scikit_learns_weight_decay_is_ours_but_for_the_biases(suite):
    """Its objective, times the samples, is J less the decay of the biases."""
    classification, _, peers, _ = suite.parts
    for case in (classification.TIMED[0], classification.TIMED[2]):
        problem = case.training()
        model, labels = peers._mlp(problem, 3, solver="lbfgs")
        controls = problem.network.init_controls(3)
        model.max_iter = 1
        seen = []

        class Watch:
            def insist(self, packed, seen=seen):
                seen.append(np.array(packed))

        model.watch = Watch()
        with pytest.warns(UserWarning, match="converge"):
            model.fit(problem.x, labels)
        np.testing.assert_array_equal(seen[0], np.concatenate(controls))
        flat = np.concatenate(list(peers._interleaved(model.coefs_, model.intercepts_)))
        ended = problem.network.split(flat)
        biases = [layer.weights(u)[1] for layer, u in zip(problem.network.layers, ended, strict=True)]
        expected = problem.objective(problem.rollout(ended)) - 0.5 * problem.weight_decay * sum(b @ b for b in biases)
        assert model.loss_ * problem.num_samples == pytest.approx(expected, rel=1e-6)


def test_the_search_of_scikit_learn_sees_the_parts_that_ours_sees(suite, monkeypatch):
    classification, _, _, _ = suite.parts
    part = classification.Part.of("iris", 0, 5)
    seen = []
    original = classification.selection._held_out_split
    monkeypatch.setattr(
        classification.selection, "_held_out_split", lambda p, s: seen.append(original(p, s)) or seen[-1]
    )
    classification.METHODS["ours"](part, (3.0,), 2, 4)
    classification.METHODS["MLPClassifier lbfgs"](part, (3.0,), 2, 4)
    assert len(seen) == 4
    for a, b in zip(seen[:2], seen[2:], strict=True):
        np.testing.assert_array_equal(a.train, b.train)
        np.testing.assert_array_equal(a.test, b.test)


def test_paired_differences_and_their_standard_errors(suite):
    tables = suite.parts[1]
    rows = [
        {"dataset": "d", "fold": fold, "method": method, "log_loss": loss, "accuracy": 1 - loss}
        for method, losses in {"ours": (0.1, 0.3), "a": (0.3, 0.7), "b": (0.2, 0.6)}.items()
        for fold, loss in enumerate(losses)
    ]
    best, difference = tables.paired(rows, "d", "log_loss")
    assert best == "b" and tables.means(difference) == pytest.approx((-0.2, 0.1))
    assert tables.paired(rows, "d", "accuracy")[0] == "b"


def test_times_are_to_the_best_of_all_or_of_the_same_weights(suite):
    tables = suite.parts[1]

    def row(family, seed, *trace):
        points = [{"seconds": s, "objective": j} for s, j in trace]
        return {"problem": "p", "family": family, "seed": seed, "objective": trace[-1][1], "trace": points}

    rows = [row("ours", 0, (1.0, 9.0), (2.0, 1.0)), row("other", 0, (0.5, 1.04)), row("ours", 1, (3.0, 2.0))]
    assert tables.times(rows, "p", "ours", same_start=False) == [2.0, np.inf]
    assert tables.times(rows, "p", "ours", same_start=True) == [2.0, 3.0]
    assert tables.times(rows, "p", "other", same_start=True)[0] == 0.5


def test_merged_results_are_those_of_one_run(suite, results, tmp_path):
    content, text = results
    parts = {name: tmp_path / f"{name}.json" for name in suite.PARTS}
    for name, path in parts.items():
        path.write_text(json.dumps(content | {other: [] for other in suite.PARTS if other != name}))
    merged = suite.main(["--only", "--merge", *map(str, parts.values()), "--markdown", str(tmp_path / "c.md")])
    assert all(merged[name] == content[name] for name in (*suite.PARTS, "notes", "commands", "environment"))
    tables = [line for line in (tmp_path / "c.md").read_text().splitlines() if line.startswith("|")]
    assert tables == [line for line in text.splitlines() if line.startswith("|")]
