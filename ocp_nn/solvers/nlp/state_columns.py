"""The states of a transcription as CasADi matrices with one column a sample.

Neighbouring states of one width that are variables with nothing between them are one symbol, so that a batch of them is
one expression whatever its length: with a symbol for each, a thousand stages took CasADi minutes to differentiate.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby, pairwise

import casadi as ca

from ...problem.optimal_control import OptimalControlProblem
from .layout import Block

__all__ = ["StateColumns"]


class StateColumns:
    """x_0..x_{K-1}: matrices, and where in them each state begins."""

    def __init__(self, problem: OptimalControlProblem, variables: Sequence[Block]) -> None:
        self._samples = problem.num_samples
        self._matrices: list[ca.MX] = []
        self._symbols: dict[int, ca.MX] = {}
        self._where: dict[int, tuple[int, int]] = {}
        for first, last in _neighbours(problem, variables):
            name = f"x{first}" if last == first else f"x{first}_{last}"
            symbol = ca.MX.sym(name, problem.widths[first] * self._samples * (last - first + 1))
            self._symbols[first] = symbol
            self._add(range(first, last + 1), ca.reshape(symbol, problem.widths[first], -1))
        if not problem.has_free_start:
            self.note(0, ca.MX(ca.DM(problem.x.T)))

    def begins_symbol(self, k: int) -> bool:
        """Whether x_k is the first state of a symbol."""
        return k in self._symbols

    def symbol(self, k: int) -> ca.MX:
        """The symbol that begins with x_k."""
        return self._symbols[k]

    def note(self, k: int, value: ca.MX) -> None:
        """x_k, which is no variable."""
        self._add([k], value)

    def _add(self, stages: Iterable[int], matrix: ca.MX) -> None:
        for position, k in enumerate(stages):
            self._where[k] = len(self._matrices), position
        self._matrices.append(matrix)

    def columns(self, stages: Sequence[int]) -> ca.MX:
        """The states of some stages beside each other, (n, N times their number)."""
        parts = []
        for number, run in groupby([self._where[k] for k in stages], key=lambda where: where[0]):
            parts.append(self._cut(self._matrices[number], [position for _, position in run]))
        return parts[0] if len(parts) == 1 else ca.horzcat(*parts)

    def _cut(self, matrix: ca.MX, positions: Sequence[int]) -> ca.MX:
        samples = self._samples
        if len(positions) * samples == matrix.shape[1] and list(positions) == list(range(len(positions))):
            return matrix
        first, last = positions[0], positions[-1]
        if list(positions) == list(range(first, last + 1)):
            return matrix[:, first * samples : (last + 1) * samples]
        return matrix[:, [position * samples + i for position in positions for i in range(samples)]]


def _neighbours(problem: OptimalControlProblem, variables: Sequence[Block]) -> list[tuple[int, int]]:
    """First and last of the runs of states of one width that follow one another in the program."""
    runs: list[tuple[int, int]] = []
    for before, block in pairwise((None, *variables)):
        assert block is not None
        k = block.stage
        if block.kind == "state":
            follows = before is not None and before.kind == "state" and problem.widths[k - 1] == problem.widths[k]
            if follows and runs[-1][1] == k - 1:
                runs[-1] = runs[-1][0], k
            else:
                runs.append((k, k))
    return runs
