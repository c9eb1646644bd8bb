"""Results of general problems and of records over time are saved, read and gone on from like those of training."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace

import casadi as ca
import numpy as np
import pytest
from control_problems import PROBLEMS
from systems import long_memory, mildly_nonlinear

import ocp_nn
from ocp_nn import (
    Dense,
    IdentificationProblem,
    LoadError,
    OptimalControlProblem,
    Options,
    Stage,
    StateSpaceModel,
    Status,
    Term,
    certify,
    solve,
)
from ocp_nn.problem.losses import Custom

V, Y = mildly_nonlinear(60)


def with_own_loss() -> OptimalControlProblem:
    """A dense stage, and a loss that is a CasADi function."""
    z, y = ca.SX.sym("z", 1), ca.SX.sym("y", 1)
    rng = np.random.default_rng(2)
    return OptimalControlProblem(
        [Stage(Dense(2, 3), 0)],
        [
            Term(
                1,
                Dense(3, 1, "identity"),
                rng.standard_normal((5, 1)),
                block=1,
                loss=Custom(ca.Function("loss", [z, y], [ca.sqrt(1 + (z - y) ** 2) - 1])),
            )
        ],
        rng.standard_normal((5, 2)),
    )


def of_dense_layers() -> OptimalControlProblem:
    """No functions, which are tried in a process of their own where no check sum vouches for them."""
    rng = np.random.default_rng(2)
    y = rng.standard_normal((5, 1))
    return OptimalControlProblem(
        [Stage(Dense(2, 2), 0), Stage(Dense(2, 2), 0)],
        [Term(1, Dense(2, 1), y, block=1), Term(2, Dense(2, 1), y, block=1, sample_weight=[1, 2, 0, 1, 1])],
        rng.standard_normal((5, 2)),
        initial_weight=1.0,
    )


def own_functions() -> StateSpaceModel:
    x, v, theta = ca.SX.sym("x", 2), ca.SX.sym("v", 1), ca.SX.sym("theta", 3)
    f = ca.vertcat(theta[0] * x[0] + v, theta[1] * x[0] + 0.5 * ca.tanh(x[1]))
    dynamics = ca.Function("f", [x, v, theta], [f])
    return StateSpaceModel(
        dynamics=dynamics, output=ca.Function("g", [x, v, theta], [theta[2] * x[1]]), guess=[0.5, 0.4, 1.0]
    )


def of_networks(**others) -> StateSpaceModel:
    return StateSpaceModel(num_states=2, num_inputs=1, num_outputs=1, hidden_layer_sizes=(4,), **others)


def records(model: StateSpaceModel, **others) -> IdentificationProblem:
    """Two records of different lengths, with outputs that were not measured."""
    y = Y.copy()
    y[[3, 11]] = np.nan
    return IdentificationProblem(model, [(V, y), (V[:25], Y[:25])], 1e-2, **others)


ALL = {
    **PROBLEMS,
    "own loss": with_own_loss(),
    "dense layers": of_dense_layers(),
    "records, networks": records(of_networks(), output_weight=[2.0]),
    "records, deep output": records(of_networks(output_layer_sizes=(3,), linear=False, feedthrough=True)),
    "records, own functions": records(own_functions()),
    "records, known start": records(of_networks(), initial_state=[0.1, -0.2], initial_weight=np.inf),
    "autonomous record": IdentificationProblem(
        StateSpaceModel(num_states=2, num_inputs=0, num_outputs=1, hidden_layer_sizes=(3,)), [(None, Y)], 0.1
    ),
}


def saved(result, tmp_path):
    result.save(tmp_path / "r.npz")
    return ocp_nn.load(tmp_path / "r.npz")


@pytest.mark.parametrize("name", ALL)
def test_what_comes_back_is_what_was_saved(name, tmp_path):
    problem = ALL[name]
    result = solve(problem, options=Options(max_outer=6, sample_start=False))
    copy = saved(result, tmp_path)
    assert type(copy.problem) is type(problem) and copy.problem.is_same_as(problem)
    assert repr(copy) == repr(result) and copy.options == result.options and copy.history == result.history
    for kind in ("controls", "states", "multipliers"):
        mine, theirs = getattr(copy.trajectory, kind), getattr(result.trajectory, kind)
        assert [a.tobytes() for a in mine] == [a.tobytes() for a in theirs]
    assert copy.problem.objective(copy.trajectory) == result.objective
    verdict, again = certify(problem, result.trajectory), certify(copy.problem, copy.trajectory)
    assert str(verdict) == str(again)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("settings", [{}, {"shooting": "single"}, {"shooting": 2}])
def test_a_file_goes_on_as_if_it_had_never_stopped(name, settings, tmp_path):
    problem = ALL[name]
    whole = solve(problem, options=Options(max_outer=14, tolerance=1e-10, **settings))
    first = solve(problem, options=Options(max_outer=6, tolerance=1e-10, **settings))
    copy = saved(first, tmp_path)
    resumed = solve(copy.problem, copy, options=Options(max_outer=14, tolerance=1e-10, **settings))
    assert resumed.status is whole.status and resumed.counts == whole.counts
    for mine, theirs in zip(resumed.trajectory.controls, whole.trajectory.controls, strict=True):
        assert mine.tobytes() == theirs.tobytes()
    assert resumed.objective == whole.objective and resumed.stationarity == whole.stationarity


def test_a_solve_that_has_begun_again_keeps_its_earlier_end(tmp_path):
    """Noise of which little can be explained: the second start is on its way when it is saved."""
    rng = np.random.default_rng(5)
    noisy = IdentificationProblem(of_networks(), [(V, Y + 0.9 * Y.std() * rng.standard_normal(Y.shape))], 1.0)
    whole, begun = solve(noisy), []

    def soon_after(iterate):
        begun.extend([iterate.iteration] * bool(iterate.state.counts["restarts"]))
        return len(begun) == 3

    part = solve(noisy, callback=soon_after)
    assert part.state.earlier is not None
    copy = saved(part, tmp_path)
    assert copy.state.earlier.status is part.state.earlier.status
    resumed = solve(copy.problem, copy)
    assert resumed.counts == whole.counts and resumed.objective == whole.objective
    assert resumed.trajectory.states[7].tobytes() == whole.trajectory.states[7].tobytes()


def test_a_model_over_time_predicts_from_a_file(tmp_path):
    problem = ALL["records, networks"]
    result = solve(problem, options=Options(max_outer=5))
    copy = saved(result, tmp_path)
    theta, x0 = result.trajectory.controls[0], result.trajectory.states[0][0]
    y, _ = problem.model.simulate(theta, V, x0)
    again, _ = copy.problem.model.simulate(copy.trajectory.controls[0], V, copy.trajectory.states[0][0])
    assert y.tobytes() == again.tobytes()


def test_checkpoints_of_records_are_gone_on_from(tmp_path):
    problem, path = ALL["records, networks"], tmp_path / "c.npz"
    options = Options(max_outer=12, tolerance=1e-10)
    seen = []

    def stop(iterate):
        seen.append(iterate.iteration)
        return iterate.iteration == 5

    first = solve(problem, options=options, callback=stop, checkpoint=path, checkpoint_seconds=0)
    assert first.status is Status.INTERRUPTED
    resumed = solve(problem, ocp_nn.load(path), options=options, checkpoint=path)
    whole = solve(problem, options=options)
    assert resumed.trajectory.controls[0].tobytes() == whole.trajectory.controls[0].tobytes()
    assert len(resumed.history) == len(whole.history)


def test_without_its_problem_there_is_nothing_to_save(tmp_path):
    result = solve(ALL["records, networks"], options=Options(max_outer=2))
    with pytest.raises(ValueError, match="saved with its problem or not at all: use state=True"):
        result.save(tmp_path / "r.npz", state=False)
    with pytest.raises(ValueError, match="only a result with a model can be saved"):
        replace(result, problem=None).save(tmp_path / "r.npz")
    assert not (tmp_path / "r.npz").exists()


def test_functions_that_many_stages_share_are_written_once(tmp_path):
    result = solve(PROBLEMS["one block over time, free start"], options=Options(max_outer=1))
    result.save(tmp_path / "r.npz")
    with np.load(tmp_path / "r.npz") as file:
        problem = json.loads(str(file["meta"]))["problem"]
    assert len(problem["functions"]) == 2 and len(problem["stages"]) + len(problem["terms"]) == 11


# ---- files that are not what they say


def content(name) -> dict:
    """The arrays of a small result with its state; without check sums, so that the content is what is judged."""
    with tempfile.TemporaryDirectory() as folder:
        solve(ALL[name], options=Options(max_outer=2)).save(f"{folder}/r.npz")
        with np.load(f"{folder}/r.npz") as file:
            arrays = dict(file)
    arrays.pop("meta_sha256")
    return arrays


MIXED, DENSE, RECORDS = "mixed losses and blocks, free start", "dense layers", "records, networks"
CONTENT = {name: content(name) for name in (MIXED, DENSE, RECORDS)}


def refused(arrays, tmp_path) -> str:
    np.savez(tmp_path / "copy.npz", **arrays)
    with pytest.raises(LoadError) as error:
        ocp_nn.load(tmp_path / "copy.npz")
    message = str(error.value)
    assert "\n" not in message and len(message) < 600
    return message


def edited(arrays, change) -> dict:
    meta = json.loads(str(arrays["meta"]))
    change(meta)
    return arrays | {"meta": np.array(json.dumps(meta))}


@pytest.mark.parametrize("name", [DENSE, RECORDS])
def test_every_array_that_is_missing_is_named(name, tmp_path):
    optional = {"trajectory_multiplier_0", "problem_weight_1", "trajectory_multipliers", "history"}
    for array in CONTENT[name].keys() - optional - {"meta"}:
        message = refused({k: v for k, v in CONTENT[name].items() if k != array}, tmp_path)
        assert "damaged, or not a result" in message


@pytest.mark.parametrize("name", [DENSE, RECORDS])
def test_every_array_of_another_shape_is_refused(name, tmp_path):
    for array, values in CONTENT[name].items():
        if array != "meta":
            refused(CONTENT[name] | {array: np.zeros((3, *values.shape))}, tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m["problem"]["model"].update(num_states=10**6), "array 'control_0' has shape"),
        (lambda m: m["problem"]["model"].update(hidden_layer_sizes=[10**9]), ""),
        (lambda m: m["problem"]["model"].update(activation="sin"), "activation"),
        (lambda m: m["problem"]["model"].update(kind="magic"), "expected one of networks, functions"),
        (lambda m: m["problem"].update(kind="magic"), "expected one of training, general, identification"),
        (lambda m: m["problem"].update(kind="training"), "without a network"),
        (lambda m: m["problem"].update(kind="general"), "has no entry"),
        (lambda m: m["problem"].update(records=10**9), "problem_"),
        (lambda m: m["problem"].update(output_weight=[1.0, 1.0]), "2 output weights, expected 1"),
        (lambda m: m["problem"].update(weight_decay=-1.0), "weight_decay"),
        (lambda m: m["state"]["hardening"].update(penalty=0), "penalty"),
        (lambda m: m["state"].update(later_starts=["magic"]), "later starts"),
        (lambda m: m["state"]["counts"].pop("newton"), "no count of 'newton'"),
        (lambda m: m.update(problem=None), "neither a network nor a problem"),
        (lambda m: m["result"].update(objective=123.0), "objective"),
    ],
)
def test_descriptions_of_records_are_checked(change, message, tmp_path):
    assert message in refused(edited(CONTENT[RECORDS], change), tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m["problem"]["stages"][0].update(block=7), "stage 0 uses block 7, but there are 3"),
        (lambda m: m["problem"]["stages"][0]["layer"].update(function=9), "stage 0 uses function 9, but there are 1"),
        (lambda m: m["problem"]["stages"][1]["layer"].update(num_inputs=10**6), "does not fit its block of 6 numbers"),
        (lambda m: m["problem"]["stages"][0].update(unit=0), "unit"),
        (lambda m: m["problem"]["terms"][0].update(loss={"name": "magic"}), "expected one of"),
        (lambda m: m["problem"]["terms"][0].update(stage=99), "stage"),
        (lambda m: m["problem"]["block_lengths"].__setitem__(0, 10**9), "but its block has 1000000000 numbers"),
        (lambda m: m["problem"]["functions"].__setitem__(0, "abc"), "serialize()"),
        (lambda m: m["problem"].update(decays=[1.0]), "weight_decay"),
    ],
)
def test_descriptions_of_general_problems_are_checked(change, message, tmp_path):
    assert message in refused(edited(CONTENT[MIXED], change), tmp_path)


def test_a_restarted_chain_is_saved_with_several_records(tmp_path):
    chain, _ = long_memory()
    problem = IdentificationProblem(
        StateSpaceModel(num_states=3, num_inputs=2, num_outputs=1, hidden_layer_sizes=(4,)), chain, 1e-4
    )
    result = solve(problem, options=Options(max_outer=4))
    copy = saved(result, tmp_path)
    assert copy.problem.records.lengths == problem.records.lengths
    assert copy.state.point.states.tobytes() == result.state.point.states.tobytes()
