"""A feed-forward network is a discrete-time system: stages f_k, states x_k (activations), controls u_k (weights).

    x_{k+1} = f_k(x_k, u_k),   k = 0..K-1

acting on every sample with the same control.  A stage is a CasADi ``Function`` f_k(x, u) of one sample; the
network evaluates it for whole batches, rows being samples. Layers do that:
:mod:`.layers`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import casadi as ca
import numpy as np
from numpy.typing import NDArray

from ..base import checks, display
from .layers import Dense, Layer, Symbolic, described_layer, init_layer

__all__ = ["Network"]

Array = NDArray[np.float64]

_BLOCKS = checks.sequence(checks.integer(0), "a sequence of block numbers (integers >= 0)")


@dataclass(frozen=True, eq=False)
class Network:
    """A sequence of layers whose widths match.

    Parameters
    ----------
    layers : sequence of Dense, Symbolic or casadi.Function
        Plain CasADi functions f(x, u) are wrapped in :class:`Symbolic`.
    blocks : sequence of int, optional
        c(k), the control block of every layer, numbered in the order of their first use: layers with the same number
        share their weights.  By default every layer has a block of its own.

    Attributes
    ----------
    stages : tuple of casadi.Function
        The dynamics f_k(x, u) of one sample.

    Raises
    ------
    ValueError
        Without layers, where the output of a layer does not fit the next one, or where layers that share a block have
        control vectors of different lengths.
    """

    layers: tuple[Layer, ...]
    blocks: tuple[int, ...]

    def __init__(self, layers: Sequence[Layer | ca.Function], blocks: Sequence[int] | None = None) -> None:
        wrapped = tuple(Symbolic(layer) if isinstance(layer, ca.Function) else layer for layer in layers)
        if not wrapped:
            raise ValueError("a network needs at least one layer, got none")
        driven = [k for k, layer in enumerate(wrapped) if isinstance(layer, Symbolic) and layer.num_exogenous]
        if driven:
            raise ValueError(
                f"stage {driven[0]} has an exogenous input (a third argument), which a network has no values for: "
                "use ocp_nn.OptimalControlProblem"
            )
        for k, (first, second) in enumerate(pairwise(wrapped)):
            if first.num_outputs != second.num_inputs:
                raise ValueError(
                    f"stage {k} has {first.num_outputs} outputs but stage {k + 1} expects {second.num_inputs} inputs"
                )
        object.__setattr__(self, "layers", wrapped)
        object.__setattr__(self, "blocks", _checked_blocks(blocks, wrapped))

    def __repr__(self) -> str:
        tied = f", blocks {display.widths(self.blocks)}" if self.is_tied else ""
        return f"Network({display.widths(self.sizes)}, {display.runs(_word(layer) for layer in self.layers)}{tied})"

    def _repr_html_(self) -> str:
        header = ("stage", "function", "inputs", "outputs", "controls")
        rows = [
            (k, _word(layer), layer.num_inputs, layer.num_outputs, layer.num_controls)
            for k, layer in enumerate(self.layers)
        ]
        return display.html_table(f"Network, {self.num_controls:,} controls", rows, header)

    def __reduce__(self) -> tuple[type[Network], tuple[tuple[Layer, ...], tuple[int, ...]]]:
        return Network, (self.layers, self.blocks)

    def describe(self) -> list[dict[str, Any]]:
        """The layers in plain words and numbers, each with its block where some are shared."""
        layers = [layer.describe() for layer in self.layers]
        if not self.is_tied:
            return layers
        return [{**layer, "block": block} for layer, block in zip(layers, self.blocks, strict=True)]

    @classmethod
    def from_description(cls, layers: Sequence[dict[str, Any]]) -> Network:
        """The network that :meth:`describe` described."""
        blocks = [layer.get("block", k) for k, layer in enumerate(layers)]
        plain = [{name: value for name, value in layer.items() if name != "block"} for layer in layers]
        return cls([described_layer(**layer) for layer in plain], blocks)

    @classmethod
    def mlp(
        cls, sizes: Sequence[int], activation: str = "tanh", residual: bool = False, *, tied: bool = False
    ) -> Network:
        """Dense layers of the given widths, the last one linear.

        Parameters
        ----------
        sizes : sequence of int
            Inputs, hidden widths, outputs: ``[10, 20, 20, 1]`` has three stages.
        activation : str
            A key of :data:`.activations.ACTIVATIONS`, for the hidden layers.
        residual : bool
            Add a skip connection wherever a hidden layer keeps its width.
        tied : bool
            Hidden layers that keep their width, after the first one, share their weights with the layer before them:
            a network that is unrolled over its depth.

        Raises
        ------
        ValueError
            For fewer than two sizes, widths below one or an unknown activation.
        """
        checks.check("sizes", sizes, checks.SIZES)
        checks.check("residual", residual, checks.BOOLEAN)
        checks.check("tied", tied, checks.BOOLEAN)
        checks.check_weights(sizes)
        *hidden, last = list(pairwise(sizes))
        layers = [Dense(n, m, activation, residual and n == m) for n, m in hidden]
        return cls([*layers, Dense(last[0], last[1], "identity")], _tied_blocks(hidden) if tied else None)

    @property
    def is_tied(self) -> bool:
        """Whether some layers share their weights."""
        return len(set(self.blocks)) < len(self.blocks)

    @cached_property
    def num_blocks(self) -> int:
        return max(self.blocks) + 1

    @cached_property
    def block_layers(self) -> tuple[Layer, ...]:
        """The first layer of every block."""
        return tuple(self.layers[self.blocks.index(block)] for block in range(self.num_blocks))

    def of_layers(self, controls: Sequence[Array]) -> tuple[Array, ...]:
        """The control of every layer, given one a block."""
        return tuple([controls[block] for block in self.blocks])

    @cached_property
    def has_kinks(self) -> bool:
        """Whether a layer is piecewise linear (ReLU)."""
        return any(isinstance(layer, Dense) and layer.activation == "relu" for layer in self.layers)

    @cached_property
    def is_affine(self) -> bool:
        """Whether every layer is: linear regression in other words."""
        return all(isinstance(layer, Dense) and layer.activation == "identity" for layer in self.layers)

    @cached_property
    def stages(self) -> tuple[ca.Function, ...]:
        return tuple(layer.function for layer in self.layers)

    @property
    def num_stages(self) -> int:
        return len(self.layers)

    @property
    def num_inputs(self) -> int:
        return self.layers[0].num_inputs

    @property
    def num_outputs(self) -> int:
        return self.layers[-1].num_outputs

    @property
    def num_controls(self) -> int:
        """P: numbers in all blocks."""
        return sum(layer.num_controls for layer in self.block_layers)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Widths of x_0..x_K."""
        return (self.num_inputs, *(layer.num_outputs for layer in self.layers))

    def init_controls(self, seed: int = 0) -> tuple[Array, ...]:
        """Standard weights: W ~ N(0, 1) / sqrt(n_in) and b = 0; 0.1 N(0, 1) for the control of a symbolic stage."""
        checks.check("seed", seed, checks.SEED)
        rng = np.random.default_rng(seed)
        return tuple(init_layer(layer, rng) for layer in self.block_layers)

    def predict(self, controls: Sequence[Array], x: Array) -> Array:
        """The outputs for a batch: (N, num_inputs) -> (N, num_outputs).

        Raises
        ------
        ValueError
            If the controls or the inputs do not have the network's shapes, or x is not of finite real numbers.
        """
        controls = self.check_controls(controls)
        x = checks.table("x", x, self.num_inputs)
        for layer, u in zip(self.layers, self.of_layers(controls), strict=True):
            x = layer.forward(x, u)
        return x

    def check_controls(self, controls: Sequence[Array]) -> tuple[Array, ...]:
        """The controls as float vectors, one a block; a block a stage where none is shared.

        Raises
        ------
        ValueError
            If their number or a length is not the network's, or they are not of real numbers.
        """
        checks.check("controls", controls, checks.ARRAYS)
        vectors = tuple([np.ascontiguousarray(checks.real_array(f"controls[{k}]", u)) for k, u in enumerate(controls)])
        expected = [(layer.num_controls,) for layer in self.block_layers]
        received = [u.shape for u in vectors]
        if received != expected:
            each = "block" if self.is_tied else "stage"
            raise ValueError(f"expected one control vector a {each} with shapes {expected}, received {received}")
        return vectors

    def split(self, flat: Array) -> tuple[Array, ...]:
        """A vector of all controls, cut into one vector a block (views)."""
        return tuple([flat[cut] for cut in self._cuts])

    @cached_property
    def _cuts(self) -> tuple[slice, ...]:
        ends = np.cumsum([0, *(layer.num_controls for layer in self.block_layers)]).tolist()
        return tuple(slice(start, end) for start, end in pairwise(ends))


def _tied_blocks(hidden: Sequence[tuple[int, int]]) -> list[int]:
    """Blocks of hidden layers and of the last one, where a layer that keeps its width shares that of the one before."""
    steps = [int(sizes != before) for before, sizes in pairwise(hidden)]
    return np.cumsum([0, *steps, 1] if hidden else [0]).tolist()


def _checked_blocks(blocks: Sequence[int] | None, layers: Sequence[Layer]) -> tuple[int, ...]:
    if blocks is None:
        return tuple(range(len(layers)))
    checks.check("blocks", blocks, _BLOCKS)
    numbers = tuple(int(block) for block in blocks)
    if len(numbers) != len(layers) or list(dict.fromkeys(numbers)) != list(range(len(set(numbers)))):
        raise ValueError(
            f"blocks must be one number for each of {len(layers)} layers, 0, 1, ... in the order of their first use, "
            f"received {list(numbers)}"
        )
    for k, (layer, block) in enumerate(zip(layers, numbers, strict=True)):
        first = layers[numbers.index(block)]
        if layer.num_controls != first.num_controls:
            raise ValueError(
                f"layers of one block need control vectors of one length: layer {k} has {layer.num_controls}, and "
                f"block {block} {first.num_controls}"
            )
    return numbers


def _word(layer: Layer) -> str:
    if isinstance(layer, Dense):
        return f"{layer.activation}{' residual' if layer.residual else ''}"
    return repr(layer.function.name())
