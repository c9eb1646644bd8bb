"""The benchmark measures what it says: one clock, one objective, honest absences, scores by their definitions."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import check_grad

from ocp_nn import Network, TrainingProblem

SCRIPTS = str(Path(__file__).parents[1] / "scripts")
RUN_KEYS = {
    "problem",
    "peer",
    "family",
    "seed",
    "status",
    "objective",
    "mse",
    "seconds",
    "wall",
    "build_seconds",
    "iterations",
    "stationarity",
    "certified",
    "test_rmse",
    "peak_bytes",
    "trace",
    "limit",
    "deep",
}
ABSENT = "no_such_package"


@pytest.fixture(scope="module")
def suite():
    sys.path.insert(0, SCRIPTS)
    try:
        import bench
        from bench_suite import documents, figures, growth, measures, peers, problems, report, scores, uci
    finally:
        sys.path.remove(SCRIPTS)
    bench.parts = growth, measures, peers, problems, report, scores
    bench.more_parts = documents, uci
    bench.figures = figures
    return bench


@pytest.fixture(scope="module")
def results(suite, tmp_path_factory):
    """One tiny problem, two peers and one that is not installed."""
    _, _, peers, problems, _, _ = suite.parts
    folder = tmp_path_factory.mktemp("bench")
    tiny = problems.Problem(name="tiny", data="sin2x", hidden=(4,), weight_decay=1e-2)
    absent = replace(peers.PEERS[0], name="absent", family="absent", requires=(ABSENT,))
    kept = problems.PROBLEMS, peers.PEERS
    problems.PROBLEMS, peers.PEERS = (tiny,), (*peers.PEERS, absent)
    try:
        words = ["--only", "peers", "--peers", "ours", "SciPy L-BFGS", "absent", "--seeds", "0", "--limit", "0.5"]
        files = ["--json", str(folder / "b.json"), "--markdown", str(folder / "b.md"), "--figures", str(folder)]
        suite.main([*words, *files])
    finally:
        problems.PROBLEMS, peers.PEERS = kept
    return folder, json.loads((folder / "b.json").read_text())


def test_json_holds_versions_seeds_times_and_traces(results):
    _, content = results
    assert content["schema"] == 1 and content["environment"]["cpu"] and content["environment"]["casadi"]
    assert "commit" in content["environment"]
    assert [(run["peer"], run["seed"]) for run in content["runs"]] == [("ours", 0), ("SciPy L-BFGS", 0)]
    for run in content["runs"]:
        assert run.keys() == RUN_KEYS
        objectives = [point["objective"] for point in run["trace"]]
        assert objectives == sorted(objectives, reverse=True) and objectives[-1] == run["objective"]
        assert run["trace"][-1]["seconds"] <= run["seconds"] and run["peak_bytes"] >= 0


def test_all_start_from_the_same_weights_and_minimise_the_same_objective(results):
    _, content = results
    ours, lbfgs = content["runs"]
    assert ours["trace"][0]["objective"] == pytest.approx(lbfgs["trace"][0]["objective"], rel=1e-12)
    assert ours["certified"] and ours["stationarity"] < 1e-6 and ours["objective"] < 0.7 * ours["trace"][0]["objective"]


def test_absent_peers_are_skipped_with_a_note(results, suite):
    folder, content = results
    assert f"absent: skipped, {ABSENT} not installed" in content["notes"]
    _, measures, peers, problems, _, _ = suite.parts
    peer = replace(peers.PEERS[0], requires=(ABSENT,))
    outcome = measures.run(problems.PROBLEMS[5], peer, 0, 1.0, folder)
    assert outcome.status == f"skipped: {ABSENT} not installed" and outcome.trace == []


def test_what_is_slow_to_import_is_imported_once_where_a_peer_requires_it(suite, monkeypatch):
    peers = suite.parts[2]
    monkeypatch.setattr(peers, "_PRELOADED", ("this", ABSENT))
    monkeypatch.delitem(sys.modules, "this", raising=False)
    peers.preload([peers.PEERS[0], replace(peers.PEERS[0], requires=(ABSENT,))])
    assert "this" not in sys.modules
    peers.preload([replace(peers.PEERS[0], requires=("this",))])
    assert "this" in sys.modules


def test_absent_data_are_skipped_with_a_note(suite, tmp_path):
    problems = suite.parts[3]
    chosen, notes = problems.select(["yacht", "sin2x 4x10"], tmp_path)
    assert [problem.name for problem in chosen] == ["sin2x 4x10"] and notes[0].startswith("yacht: skipped")


def test_tables_and_figures_are_written(results):
    folder, _ = results
    text = (folder / "b.md").read_text()
    assert "| tiny |" in text and "### Seconds to 5 % above the best known objective" in text
    for name in ("profiles", "times"):
        assert (folder / f"bench_{name}.png").read_bytes().startswith(b"\x89PNG")


def test_what_stands_above_the_tables_is_kept(suite, tmp_path):
    path = tmp_path / "b.md"
    suite.write_markdown(path, "first")
    path.write_text("by hand\n" + path.read_text())
    suite.write_markdown(path, "second")
    assert path.read_text() == "by hand\n<!-- generated -->\n\nsecond\n"


def test_merged_results_are_added_once(suite, results):
    _, content = results
    bench = suite.Bench(suite.parse(["--only", "report"]))
    bench.merge(content)
    bench.merge(content)
    assert bench.results["runs"] == content["runs"] and bench.results["commands"] == content["commands"]


def test_results_of_an_earlier_commit_are_a_method_of_their_own(suite, results):
    _, content = results
    bench = suite.Bench(suite.parse(["--only", "report"]))
    bench.merge(content)
    for _ in range(2):
        bench.merge_before(content)
    assert [run["family"] for run in bench.results["runs"]] == ["ours", "SciPy L-BFGS", "ours, before"]
    assert "ours, before: commit" in bench.results["notes"][-1]
    text = suite.parts[4].markdown(bench.results)
    assert "| ours, before |" in text and "| SciPy L-BFGS | " in text.split("hardest to beat")[2]


def test_resumed_results_are_not_measured_again(results, suite, monkeypatch):
    folder, content = results
    _, measures, _, problems, _, _ = suite.parts
    tiny = problems.Problem(name="tiny", data="sin2x", hidden=(4,), weight_decay=1e-2)
    monkeypatch.setattr(problems, "PROBLEMS", (tiny,))
    monkeypatch.setattr(measures, "run", None)
    again = ["--only", "peers", "--peers", "ours", "SciPy L-BFGS", "--seeds", "0", "--json", str(folder / "b.json")]
    assert suite.main([*again, "--resume"])["runs"] == content["runs"]


def test_results_are_saved_now_and_then_and_when_something_breaks(suite, tmp_path, monkeypatch):
    path = tmp_path / "new" / "b.json"
    bench = suite.Bench(suite.parse(["--json", str(path)]))
    bench.add("growth", {"size": 1})
    bench.add("growth", {"size": 2})  # too soon for the file
    assert json.loads(path.read_text())["growth"] == [{"size": 1}]

    def broken(self):
        self.add("growth", {"size": 3})
        raise KeyboardInterrupt

    monkeypatch.setattr(suite.Bench, "run_growth", broken)
    monkeypatch.setattr(suite, "SAVE_SECONDS", np.inf)
    with pytest.raises(KeyboardInterrupt):
        suite.main(["--only", "growth", "--json", str(path), "--resume"])
    assert [row["size"] for row in json.loads(path.read_text())["growth"]] == [1, 3]


def test_checks_are_not_on_the_clock(suite):
    measures = suite.parts[1]

    class Slow(TrainingProblem):
        def cost(self, controls, outputs, initial=None):
            end = time.process_time() + 0.05
            while time.process_time() < end:
                pass
            return super().cost(controls, outputs, initial)

    network = Network.mlp([1, 2, 1])
    watch = measures.Watch(Slow(network, [[0.0], [1.0]], [[0.0], [1.0]]), limit=10.0)
    for seed in range(4):
        watch.check(np.concatenate(network.init_controls(seed)))
    assert watch.checks == 4 and watch.seconds < 0.1  # the checks took 0.2


def test_thinned_traces_keep_the_times_to_come_near_the_end(suite):
    measures = suite.parts[1]
    trace = [measures.TracePoint(float(i), 0.0, i, 1.0 + 9.0 * 0.9**i, 0.0) for i in range(100)]
    kept = measures.thinned(trace)
    assert len(kept) < 60 and (kept[0], kept[-1]) == (trace[0], trace[-1])
    rows = [{"seconds": point.seconds, "objective": point.objective} for point in kept]
    for within in (0.01, 0.05):
        exact = next(p.seconds for p in trace if p.objective <= (1 + within) * trace[-1].objective)
        assert exact <= measures.time_to(rows, (1 + within) * trace[-1].objective) <= exact + 2


def test_the_jacobian_given_to_scipy_is_that_of_the_objective(suite):
    peers = suite.parts[2]
    rng = np.random.default_rng(0)
    problem = TrainingProblem(
        Network.mlp([2, 3, 4, 2]), rng.standard_normal((5, 2)), rng.standard_normal((5, 2)), weight_decay=0.3
    )
    flat = np.concatenate(problem.network.init_controls(1))
    residual, jacobian = peers._residual(problem, flat), peers._jacobian(problem, flat)
    controls = problem.network.split(flat)
    assert 0.5 * residual @ residual == pytest.approx(problem.objective(problem.rollout(controls)))
    for i in range(len(residual)):
        error = check_grad(
            lambda u, i=i: peers._residual(problem, u)[i], lambda u, i=i: peers._jacobian(problem, u)[i], flat
        )
        assert error < 1e-6
    gradient = np.concatenate(problem.adjoints(problem.rollout(controls)).gradient)
    np.testing.assert_allclose(jacobian.T @ residual, gradient, rtol=1e-12, atol=1e-12)


def test_scikit_learn_starts_from_the_weights_it_is_given(suite):
    peers = suite.parts[2]
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(0)
    problem = TrainingProblem(Network.mlp([2, 3, 1]), rng.standard_normal((6, 2)), rng.standard_normal(6), 0.1)
    model, _ = peers._mlp(problem, 3, solver="lbfgs")
    flat = np.concatenate(problem.network.init_controls(3))
    packed = np.concatenate([w.ravel() for w in model.coefs_] + list(model.intercepts_))
    np.testing.assert_array_equal(peers._packed_controls(problem, packed), flat)
    np.testing.assert_allclose(
        model.predict(problem.x), problem.network.predict(problem.network.split(flat), problem.x).ravel(), rtol=1e-12
    )


def _row(problem, family, seed, times, peer=None):
    trace = [{"seconds": s, "wall": s, "iterations": i, "objective": j, "mse": j} for i, (s, j) in enumerate(times)]
    return {
        "problem": problem,
        "peer": peer or family,
        "family": family,
        "seed": seed,
        "objective": times[-1][1],
        "trace": trace,
    }


def test_a_summary_has_the_times_in_place_of_the_traces(suite):
    scores = suite.parts[5]
    run = _row("p", "ours", 0, [(0.0, 9.0), (2.0, 1.04), (3.0, 0.009), (4.0, 0.009)]) | {"deep": True}
    (row,) = scores.summary({"runs": [run]})["runs"]
    assert "trace" not in row and row["objective"] == 0.009
    assert (row["seconds_to_5_percent"], row["seconds_to_1_percent"], row["seconds_to_mse"]) == (3.0, 3.0, 3.0)


def test_the_figures_of_a_summary_are_those_of_the_traces(suite, results):
    _, content = results
    scores, figures = suite.parts[5], suite.figures
    summary = json.loads(json.dumps(scores.summary(content)))
    for within in (0.05, 0.01):
        ours, theirs = scores.instances(content["runs"], within), scores.instances(summary["runs"], within)
        assert list(ours) == list(theirs)
        np.testing.assert_allclose([*ours.values()], [*theirs.values()], rtol=1e-5)
    axes = [figures.times_figure(runs).axes[0] for runs in (content["runs"], summary["runs"])]
    drawn = [[tuple(np.ravel(line.get_xdata())) for line in ax.lines] for ax in axes]
    assert len(drawn[0]) > 2
    for from_trace, from_summary in zip(*drawn, strict=True):
        np.testing.assert_allclose(from_trace, from_summary, rtol=1e-5)


def test_figures_are_redrawn_without_a_run(suite, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(suite.parts[1], "run", None)
    summary = Path(SCRIPTS).parent / "docs" / "benchmarks.json"
    suite.main(["--redraw", str(summary), "--figures", str(tmp_path)])
    assert {path.name for path in tmp_path.iterdir()} == {"bench_profiles.png", "bench_times.png"}
    with pytest.raises(SystemExit):
        suite.parse(["--redraw", str(summary)])
    assert "--redraw needs --figures" in capsys.readouterr().err


def test_few_methods_are_highlighted_and_the_others_are_there_in_grey(suite):
    figures = suite.figures
    names = ["ours", "SciPy L-BFGS", "PyTorch Adam", *(f"other {i}" for i in range(9))]
    runs = [
        _row("p", name, seed, [(0.0, 9.0), (0.1 * (i + 1), 1.0)]) for i, name in enumerate(names) for seed in (0, 1)
    ]
    runs.append(_row("p", "single-shooting LM", 0, [(0.0, 9.0), (1.0, 2.0)]))
    for figure in (figures.times_figure(runs), figures.profiles_figure(runs)):
        labels = [text.get_text() for text in figure.legends[0].get_texts()]
        assert labels == ["ours", "single-shooting LM", "SciPy L-BFGS", "PyTorch Adam", "the others"]
    ax = figures.times_figure(runs).axes[0]
    places = {line.get_label(): line.get_xdata()[0] for line in ax.lines if not line.get_label().startswith("_")}
    assert places["ours"] == pytest.approx(0.1) and places["PyTorch Adam"] == pytest.approx(0.3)
    assert places["single-shooting LM"] > ax.get_xlim()[1] / 4  # not reached: beyond the last second
    assert sum(line.get_label() == "the others" for line in ax.lines) == 9


def test_ratios_are_of_medians_on_common_seeds(suite):
    scores = suite.parts[5]
    runs = [
        *(_row("p", "ours", seed, [(0.0, 9.0), (seconds, 1.0)]) for seed, seconds in enumerate((2.0, 4.0, 8.0))),
        _row("p", "quick", 0, [(0.0, 9.0), (1.0, 1.04)]),
        _row("p", "never", 0, [(0.0, 9.0), (1.0, 1.06)]),
        _row("q", "ours", 0, [(0.0, 9.0), (2.0, 2.0)]),
        _row("q", "quick", 0, [(0.0, 9.0), (1.0, 1.0)]),
    ]
    assert scores.best_known(runs) == {"p": 1.0, "q": 1.0}
    assert scores.ratios(runs, 0.05) == {"p": {"quick": 2.0}, "q": {"quick": np.inf}}
    assert scores.ratios(runs, 0.01) == {"p": {}, "q": {"quick": np.inf}}
    assert scores.best_by_start(runs) == {("p", 0): 1.0, ("p", 1): 1.0, ("p", 2): 1.0, ("q", 0): 1.0}
    profile = scores.instances(runs, 0.05)
    assert profile["quick"] == [(1.0, 1.0), (1.0, 1.0)] and profile["never"] == [(np.inf, np.inf)]
    assert profile["ours"] == [(2.0, 2.0), (4.0, 1.0), (8.0, 1.0), (np.inf, np.inf)]


def test_a_start_may_be_a_problem_of_its_own(suite):
    scores = suite.parts[5]
    runs = [
        _row("p", "ours", 0, [(0.0, 9.0), (2.0, 1.0)]),
        _row("p", "ours", 1, [(0.0, 9.0), (1.0, 2.09), (3.0, 2.0)]),
        _row("p", "other", 0, [(0.0, 9.0), (4.0, 1.0)]),
        _row("p", "other", 1, [(0.0, 9.0), (4.0, 2.05)]),
    ]
    assert scores.targets(runs, 0.05) == pytest.approx({("p", 0): 1.05, ("p", 1): 1.05})
    assert scores.targets(runs, 0.05, by_start=True) == pytest.approx({("p", 0): 1.05, ("p", 1): 2.1})
    assert scores.ratios(runs, 0.05) == {"p": {}}  # of two seeds the larger time counts
    assert scores.ratios(runs, 0.05, by_start=True) == {"p": {"other": 0.5}}
    text = suite.parts[4].markdown(suite.empty() | {"runs": [run | _rest for run in runs]})
    assert "| p | 1 | nobody got there | - |" in text and "| p | 1 to 2 | other | 0.50 |" in text


def test_times_to_what_peers_reach_leave_our_own_objective_out(suite):
    scores = suite.parts[5]
    runs = [
        _row("p", "ours", 0, [(0.0, 9.0), (2.0, 1.0), (5.0, 0.5)]),
        _row("p", "ours, before", 0, [(0.0, 9.0), (3.0, 0.1)]),
        _row("p", "slow", 0, [(0.0, 9.0), (7.0, 1.0)]),
        _row("p", "quick", 0, [(0.0, 9.0), (4.0, 1.009)]),
        _row("p", "never", 0, [(0.0, 9.0), (1.0, 1.02)]),
        _row("q", "ours", 0, [(0.0, 9.0), (2.0, 1.0)]),
    ]
    assert scores.against_peers(runs, 0.01) == {"p": (1.0, 2.0, "quick", 4.0)}
    text = suite.parts[4].markdown(suite.empty() | {"runs": [run | _rest for run in runs]})
    assert "| p | 1 | 2.00 | quick | 4.00 |" in text


_rest = {"deep": False, "stationarity": 1e-8, "certified": True, "test_rmse": None, "peak_bytes": 0, "limit": 9.0}
_rest |= {"build_seconds": 0.0}


def test_problems_and_methods_stand_in_the_order_of_the_suite(suite):
    scores = suite.parts[5]
    names = [("new", "ours, before"), ("relu 20x8", "SciPy L-BFGS"), ("yacht", "ours")]
    runs = [_row(problem, family, 0, [(0.0, 1.0)]) for problem, family in names]
    assert scores.problems(runs) == ["yacht", "relu 20x8", "new"]
    assert scores.families(runs) == ["ours", "SciPy L-BFGS", "ours, before"]


def test_the_best_member_of_a_family_stands_for_it(suite):
    scores = suite.parts[5]
    runs = [
        _row("p", "Adam", 0, [(0.0, 9.0), (3.0, 1.0)], peer="Adam 0.1"),
        _row("p", "Adam", 0, [(0.0, 9.0), (2.0, 1.0)], peer="Adam 0.01"),
        _row("q", "Adam", 0, [(0.0, 9.0), (3.0, 1.0)], peer="Adam 0.1"),
        _row("q", "Adam", 0, [(0.0, 9.0), (2.0, 2.0)], peer="Adam 0.01"),
    ]
    assert [run["peer"] for run in scores.representatives(runs)] == ["Adam 0.01", "Adam 0.1"]


def test_the_best_member_alone_goes_on_with_further_seeds(suite):
    _, _, peers, problems, _, scores = suite.parts
    adam = [peer for peer in peers.PEERS if peer.family == "PyTorch Adam"]
    runs = [_row("p", "PyTorch Adam", 0, [(0.0, 9.0), (3.0 + i, 1.0)], peer=peer.name) for i, peer in enumerate(adam)]
    assert {scores.favourite(runs, "p", peer) for peer in adam} == {adam[0].name}
    # later runs of it change nothing, however bad they are
    later = [*runs, _row("p", "PyTorch Adam", 1, [(0.0, 9.0)], peer=adam[0].name)]
    assert {scores.favourite(later, "p", peer) for peer in adam} == {adam[0].name}
    assert scores.favourite(runs, "q", adam[2]) == adam[2].name
    slow = next(peer for peer in peers.PEERS if peer.least_limit)
    assert suite.parse(["--deep-seeds", "2"]).deep_seeds == 2
    planned = list(suite.plan(problems.PROBLEMS[5:7], [adam[0], slow], [3, 5, 7], 2))
    assert [seed for _, peer, seed in planned if peer is slow] == [3, 3]
    assert [(problem.deep, seed) for problem, peer, seed in planned if peer is adam[0]] == [
        *((deep, seed) for seed in (3, 5) for deep in (False, True)),
        (False, 7),
    ]


def test_uci_rows_have_both_methods_and_a_table(suite, tmp_path):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 2))
    folder = tmp_path / "data" / "small"
    folder.mkdir(parents=True)
    np.savetxt(folder / "data.txt", np.column_stack([x, np.sin(x[:, 0]) + x[:, 1]]))
    np.savetxt(folder / "index_features.txt", [0, 1], fmt="%d")
    np.savetxt(folder / "index_target.txt", [2], fmt="%d")
    words = ["--quick", "--only", "uci", "--sets", "small", "--data", str(tmp_path / "data"), "--jobs", "1"]
    (row,) = suite.main(words)["uci"]
    assert row["test_rmse"] < 0.5 * row["linear_test_rmse"] and row["committee"]["test_rmse"] < row["linear_test_rmse"]
    assert row["weight_decay"] in (1.0, 0.1, 0.01) and 0.1 <= row["committee"]["weight_decay"] <= 1.0
    assert row["seconds"] > 0 and row["committee"]["seconds"] > 0
    assert sum(row["committee"]["weights"].values()) == pytest.approx(1.0, abs=1e-3)
    text = suite.parts[4].markdown(suite.empty() | {"uci": [row]})
    assert "| small | one network | 1 |" in text and "| small | committee | 1 |" in text


def test_absent_uci_sets_are_skipped_with_a_note(suite, tmp_path):
    found = suite.main(["--only", "uci", "--data", str(tmp_path), "--sets", "yacht"])
    assert found["uci"] == [] and found["notes"][0].startswith("uci yacht: skipped")


def test_documents_are_commands_that_exist_and_what_they_print_is_kept(suite, tmp_path, monkeypatch, capsys):
    documents, _ = suite.more_parts
    for words in documents.COMMANDS.values():
        assert words[0] == "-m" or (documents.ROOT / words[0]).is_file()
    with pytest.raises(ValueError, match=r"unknown documents .*'poem'.*: expected some of first figure"):
        documents.regenerate(["poem"])
    monkeypatch.setattr(documents, "ROOT", tmp_path)
    commands = {"good": ("-c", "print(6 * 7); open('f', 'w').write('figure')"), "bad": ("-c", "raise SystemExit(3)")}
    monkeypatch.setattr(documents, "COMMANDS", commands)
    monkeypatch.setattr(documents, "FIGURES", {"good": (Path("f"), Path("shown")), "bad": (Path("none"), Path("no"))})
    documents.regenerate(["good", "bad"])
    said = capsys.readouterr().out
    assert "good: done" in said and "bad: exit code 3" in said
    assert (tmp_path / documents.FOLDER / "good.txt").read_text() == "42\n"
    assert (tmp_path / "shown").read_text() == "figure" and not (tmp_path / "no").exists()


def test_growth_is_measured_and_its_exponents_are_slopes(suite):
    growth = suite.parts[0]
    rows = [
        {"variable": "width", "size": n, "step_milliseconds": 2.0 * n**3, "gradient_milliseconds": 5.0 * n}
        for n in (1, 2, 4, 8)
    ]
    slopes = growth.exponents(rows)["width"]
    assert slopes["step"] == pytest.approx(3.0) and slopes["gradient"] == pytest.approx(1.0)
