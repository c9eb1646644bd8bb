"""Problems as plain values and arrays, for files.  The way back is the business of whoever reads them.

==================  ===================================================================================================
``kind``            what is written (arrays all begin with ``problem_``)
==================  ===================================================================================================
training            ``weight_decay``, ``loss``; ``x``, ``y``, ``weight``.  The network is that of the model.
general             ``functions``: CasADi functions as text, each once; ``stages`` and ``terms`` with their layers
                    (dense, or the number of a function), blocks, units and losses; ``decays``, ``block_lengths``,
                    ``initial_weight``; ``x``, ``stage_input_k``, ``term_input_j``, ``target_j``, ``weight_j``
identification      ``model``, ``weight_decay``, ``initial_weight``, ``output_weight``, number of ``records``; ``x``,
                    ``input_i`` and ``output_i`` of record i, NaN where nothing was measured
==================  ===================================================================================================
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..network.layers import Dense, Driven, Layer
from .identification import IdentificationProblem
from .loss_description import describe_loss
from .losses import Squared
from .optimal_control import OptimalControlProblem
from .structure import Stage, Term
from .training import TrainingProblem
from .trajectory import Trajectory

__all__ = ["numbered", "packed_problem", "packed_trajectory"]

Content = dict[str, Any]
Packed = tuple[Content, Content]


def packed_problem(problem: OptimalControlProblem) -> Packed:
    """Scalars and arrays of a problem of any kind."""
    if isinstance(problem, TrainingProblem):
        return _training(problem)
    return _identification(problem) if isinstance(problem, IdentificationProblem) else _general(problem)


def packed_trajectory(problem: OptimalControlProblem, trajectory: Trajectory) -> Content:
    """The arrays of a trajectory; its controls are not among them, nor x_0 where that is known."""
    multipliers = trajectory.multipliers
    if isinstance(problem, IdentificationProblem):
        states = {"trajectory_states": np.stack(trajectory.states)}
        return states | ({} if multipliers is None else {"trajectory_multipliers": np.stack(multipliers)})
    first = 0 if problem.has_free_start else 1
    states = numbered("trajectory_state", trajectory.states[first:], first)
    return states | numbered("trajectory_multiplier", multipliers or ())


def numbered(name: str, arrays: Any, first: int = 0) -> Content:
    """Arrays by name and number."""
    return {f"{name}_{k}": array for k, array in enumerate(arrays, first)}


def _training(problem: TrainingProblem) -> Packed:
    scalars: Content = {"weight_decay": problem.weight_decay}
    arrays: Content = {"problem_x": problem.x, "problem_y": problem.y}
    if not isinstance(problem.loss, Squared):
        scalars["loss"] = describe_loss(problem.loss)
    if problem.sample_weight is not None:
        arrays["problem_weight"] = problem.sample_weight
    return scalars, arrays


def _identification(problem: IdentificationProblem) -> Packed:
    scalars = {
        "kind": "identification",
        "model": problem.model.describe(),
        "weight_decay": problem.weight_decay,
        "initial_weight": problem.initial_weight,
        "output_weight": problem.output_weight.tolist(),
        "records": len(problem.records),
    }
    arrays = {"problem_x": problem.x, **numbered("problem_input", problem.records.inputs)}
    return scalars, arrays | numbered("problem_output", problem.records.outputs)


def _general(problem: OptimalControlProblem) -> Packed:
    texts: dict[str, int] = {}
    arrays: Content = {"problem_x": problem.x}
    stages, terms = [], []
    for k, stage in enumerate(problem.dynamics):
        stages.append({**_row(stage, texts), "unit": stage.unit})
        if isinstance(stage.layer, Driven):
            arrays[f"problem_stage_input_{k}"] = stage.layer.v
    for j, term in enumerate(problem.terms):
        terms.append({**_row(term, texts), "stage": term.stage, "loss": describe_loss(term.data.loss)})
        arrays[f"problem_target_{j}"] = term.data.y
        if term.data.weights is not None:
            arrays[f"problem_weight_{j}"] = term.data.weights
        if isinstance(term.layer, Driven):
            arrays[f"problem_term_input_{j}"] = term.layer.v
    scalars = {
        "kind": "general",
        "functions": list(texts),
        "decays": list(problem.decays),
        "initial_weight": problem.initial_weight,
        "block_lengths": list(problem.block_lengths),
        "stages": stages,
        "terms": terms,
    }
    return scalars, arrays


def _row(row: Stage | Term, texts: dict[str, int]) -> Content:
    """What stages and terms have in common; functions are numbered as they come."""
    return {"layer": _layer(row.layer, texts), "block": row.block, "driven": isinstance(row.layer, Driven)}


def _layer(layer: Layer, texts: dict[str, int]) -> Content:
    if isinstance(layer, Dense):
        return layer.describe()
    return {"kind": "symbolic", "function": texts.setdefault(layer.function.serialize(), len(texts))}
