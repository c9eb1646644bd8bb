"""From a saved file back to the problem that was solved, of whatever kind: :mod:`ocp_nn.problem.packing` in reverse.

As everywhere in :mod:`.unpacking`, descriptions say how long arrays must be before anything is read or built.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import casadi as ca
import numpy as np
from numpy.typing import NDArray

from ...base.npz import Archive
from ...base.schema import (
    AMOUNT,
    COUNT,
    FLAG,
    NUMBER,
    POSITIVE,
    TEXT,
    TEXTS,
    Kind,
    Optional,
    Table,
    checked,
    from_words,
    listed,
    one_of,
    or_none,
)
from ...network.layers import Dense, Layer, Symbolic
from ...network.network import Network
from ...network.state_space import StateSpaceModel
from ...network.state_space_networks import Architecture
from ...problem.identification import IdentificationProblem
from ...problem.loss_description import loss_of_description
from ...problem.losses import LOSSES, Loss
from ...problem.optimal_control import OptimalControlProblem
from ...problem.structure import Stage, Term
from ...problem.training import TrainingProblem
from .functions_in_files import check_functions

__all__ = ["unpacked_network", "unpacked_problem"]

Array = NDArray[np.float64]

_OBJECT = Kind("an object", lambda v: isinstance(v, dict))
_LAYERS: dict[str, Table] = {
    "dense": {
        "num_inputs": COUNT,
        "num_outputs": COUNT,
        "activation": TEXT,
        "residual": FLAG,
        "block": Optional(COUNT, None),
    },
    "symbolic": {"function": TEXT, "block": Optional(COUNT, None)},
}
_PROBLEM: Table = {"weight_decay": AMOUNT, "loss": Optional(_OBJECT, {"name": "squared"})}
_LOSSES: dict[str, Table] = {name: {} for name in LOSSES} | {"huber": {"delta": POSITIVE}, "custom": {"function": TEXT}}
_LOSS: Table = {"name": one_of(*_LOSSES)}
_KIND: Table = {"kind": one_of(*_LAYERS)}
_GENERAL: Table = {
    "functions": TEXTS, "decays": listed(AMOUNT), "initial_weight": NUMBER, "block_lengths": listed(COUNT),
    "stages": listed(_OBJECT), "terms": listed(_OBJECT),
}  # fmt: skip
_ROW: Table = {"layer": _OBJECT, "block": COUNT, "driven": FLAG}
_STAGE: Table = {**_ROW, "unit": POSITIVE}
_TERM: Table = {**_ROW, "stage": COUNT, "loss": _OBJECT}
_SHARED: Table = {"function": COUNT}
_IDENTIFICATION: Table = {
    "model": _OBJECT, "weight_decay": AMOUNT, "initial_weight": NUMBER, "output_weight": listed(POSITIVE),
    "records": COUNT,
}  # fmt: skip
_NETWORKS: Table = {
    "num_states": COUNT, "num_inputs": COUNT, "num_outputs": COUNT, "hidden_layer_sizes": listed(COUNT),
    "activation": TEXT, "linear": FLAG, "feedthrough": FLAG, "output_layer_sizes": listed(COUNT),
}  # fmt: skip
_FUNCTIONS: Table = {"dynamics": TEXT, "output": TEXT, "guess": or_none(listed(NUMBER))}
_WHICH: Table = {"kind": Optional(one_of("training", "general", "identification"), "training")}
_MODEL: Table = {"kind": one_of("networks", "functions")}


def unpacked_problem(archive: Archive, values: Any, versions: dict[str, str], network: Network | None) -> Any:
    """The problem of a description; that of training is about ``network``.

    Raises
    ------
    ValueError
        Where something is missing, of the wrong kind or size, or contradicts the rest.
    """
    kind = checked("the problem", values, _WHICH)["kind"]
    if (kind == "training") != (network is not None):
        has = "without a network" if network is None else "with a network"
        raise ValueError(f"the file holds a problem of the kind {kind!r} {has}")
    if network is not None:
        return _training(archive, values, versions, network)
    values = from_words(values)
    return _general(archive, values, versions) if kind == "general" else _identification(archive, values, versions)


def unpacked_network(archive: Archive, layers: Sequence[dict[str, Any]], versions: dict[str, str]) -> Network:
    """The network, once the arrays of its controls are known to be as long as its widths say."""
    layers = [_layer(archive, k, layer) for k, layer in enumerate(layers)]
    texts = [layer["function"] for layer in layers if layer["kind"] == "symbolic"]
    check_functions(texts, versions, is_vouched_for=bool(archive.digests))
    return Network.from_description(layers)


def _layer(archive: Archive, k: int, layer: dict[str, Any]) -> dict[str, Any]:
    """The checked description of layer k."""
    kind = checked(f"layer {k}", layer, _KIND)
    layer = checked(f"layer {k}", layer, _LAYERS[kind["kind"]])
    block = layer["block"] = k if layer["block"] is None else layer["block"]
    found = archive.shape(f"control_{block}")
    expected = ((layer["num_inputs"] + 1) * layer["num_outputs"],) if "num_inputs" in layer else found
    if found != expected:
        raise ValueError(f"array 'control_{block}' has shape {found}, but its layer needs {expected}")
    return kind | layer


def _training(archive: Archive, values: Any, versions: dict[str, str], network: Network) -> TrainingProblem:
    scalars = checked("the problem", values, _PROBLEM)
    samples = archive.shape("problem_x")[:1]
    x = archive.floats("problem_x", (*samples, network.num_inputs))
    y = archive.floats("problem_y", (*samples, network.num_outputs))
    weight = archive.floats("problem_weight", samples) if "problem_weight" in archive else None
    loss = _loss(archive, scalars["loss"], versions)
    return TrainingProblem(network, x, y, scalars["weight_decay"], loss=loss, sample_weight=weight)


def _loss(archive: Archive, values: dict[str, Any], versions: dict[str, str]) -> Loss:
    kind = checked("the loss", values, _LOSS)
    values = checked("the loss", values, _LOSSES[kind["name"]])
    if "function" in values:
        check_functions([values["function"]], versions, is_vouched_for=bool(archive.digests))
    return loss_of_description(kind | values)


# ---- general problems


def _general(archive: Archive, values: dict[str, Any], versions: dict[str, str]) -> OptimalControlProblem:
    values = checked("the problem", values, _GENERAL)
    lengths = values["block_lengths"]
    for block, length in enumerate(lengths):
        if (found := archive.shape(f"control_{block}")) != (length,):
            raise ValueError(f"array 'control_{block}' has shape {found}, but its block has {length} numbers")
    check_functions(values["functions"], versions, is_vouched_for=bool(archive.digests))
    functions = [Symbolic(ca.Function.deserialize(text)) for text in values["functions"]]
    samples, width = _table_shape(archive, "problem_x")
    stages = [_stage(archive, k, row, functions, lengths, samples) for k, row in enumerate(values["stages"])]
    terms = [_term(archive, j, row, functions, lengths, samples, versions) for j, row in enumerate(values["terms"])]
    return OptimalControlProblem(
        stages,
        terms,
        archive.floats("problem_x", (samples, width)),
        weight_decay=values["decays"],
        initial_weight=values["initial_weight"],
    )


def _stage(archive: Archive, k: int, row: Any, functions: Sequence[Symbolic], lengths: list[int], n: int) -> Stage:
    row = checked(f"stage {k}", row, _STAGE)
    layer = _row_layer(f"stage {k}", row, functions, lengths)
    exogenous = _exogenous(archive, f"problem_stage_input_{k}", row, layer, n)
    return Stage(layer, row["block"], exogenous=exogenous, unit=row["unit"])


def _term(
    archive: Archive,
    j: int,
    row: Any,
    functions: Sequence[Symbolic],
    lengths: list[int],
    samples: int,
    versions: dict[str, str],
) -> Term:
    row = checked(f"term {j}", row, _TERM)
    layer = _row_layer(f"term {j}", row, functions, lengths)
    outputs = layer.num_outputs
    weight, name = None, f"problem_weight_{j}"
    if name in archive:
        shape = archive.shape(name)
        weight = archive.floats(name, (samples, outputs) if len(shape) == 2 else (samples,))
    return Term(
        row["stage"],
        layer,
        archive.floats(f"problem_target_{j}", (samples, outputs)),
        block=row["block"],
        loss=_loss(archive, row["loss"], versions),
        sample_weight=weight,
        exogenous=_exogenous(archive, f"problem_term_input_{j}", row, layer, samples),
    )


def _row_layer(where: str, row: dict[str, Any], functions: Sequence[Symbolic], lengths: Sequence[int]) -> Layer:
    """The layer of a stage or a term, dense or one of the functions, once it fits its block."""
    kind = checked(where, row["layer"], _KIND)["kind"]
    if row["block"] >= len(lengths):
        raise ValueError(f"{where} uses block {row['block']}, but there are {len(lengths)}")
    length = lengths[row["block"]]
    if kind == "symbolic":
        number = checked(where, row["layer"], _SHARED)["function"]
        if number >= len(functions):
            raise ValueError(f"{where} uses function {number}, but there are {len(functions)}")
        return functions[number]
    entries = checked(where, row["layer"], _LAYERS["dense"])
    entries.pop("block")
    if (entries["num_inputs"] + 1) * entries["num_outputs"] != length:
        raise ValueError(f"{where} does not fit its block of {length} numbers")
    return Dense(**entries)


def _exogenous(archive: Archive, name: str, row: dict[str, Any], layer: Layer, samples: int) -> Array | None:
    if not row["driven"]:
        return None
    width = layer.num_exogenous if isinstance(layer, Symbolic) else 0
    return archive.floats(name, (samples, width))


def _table_shape(archive: Archive, name: str) -> tuple[int, int]:
    shape = archive.shape(name)
    if len(shape) != 2:
        raise ValueError(f"array {name!r} has shape {shape}, expected a table")
    return shape[0], shape[1]


# ---- records over time


def _identification(archive: Archive, values: dict[str, Any], versions: dict[str, str]) -> IdentificationProblem:
    values = checked("the problem", values, _IDENTIFICATION)
    model = _state_space_model(archive, values["model"], versions)
    if len(values["output_weight"]) != model.num_outputs:
        raise ValueError(f"the problem has {len(values['output_weight'])} output weights, expected {model.num_outputs}")
    experiments = [_record(archive, i, model) for i in range(values["records"])]
    return IdentificationProblem(
        model,
        experiments,
        values["weight_decay"],
        output_weight=values["output_weight"],
        initial_state=archive.floats("problem_x", (values["records"], model.num_states)),
        initial_weight=values["initial_weight"],
    )


def _state_space_model(archive: Archive, description: Any, versions: dict[str, str]) -> StateSpaceModel:
    """The model, once its parameters are known to be as many as its widths say."""
    kind = checked("the model", description, _MODEL)
    found = archive.shape("control_0")
    if kind["kind"] == "networks":
        entries = checked("the model", description, _NETWORKS)
        needed = Architecture(**entries).num_parameters
        if found != (needed,):
            raise ValueError(f"array 'control_0' has shape {found}, but the model has {needed} parameters")
        return StateSpaceModel.from_description(kind | entries)
    entries = checked("the model", description, _FUNCTIONS)
    check_functions([entries["dynamics"], entries["output"]], versions, is_vouched_for=bool(archive.digests))
    return StateSpaceModel.from_description(kind | entries)


def _record(archive: Archive, i: int, model: StateSpaceModel) -> tuple[Array, Array]:
    length = archive.shape(f"problem_output_{i}")[:1]
    v = archive.floats(f"problem_input_{i}", (*length, model.num_inputs))
    return v, archive.floats(f"problem_output_{i}", (*length, model.num_outputs), finite=False)
