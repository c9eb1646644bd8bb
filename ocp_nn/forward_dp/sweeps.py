"""The sweeps over the stages that every form shares: forward means, back-propagation, output sensitivities.

Forward, the mean of the cost-to-arrive is a rollout of the linearised stages (our derivation),

    m_0 = g_0,   m_{k+1} = A_k m_k + B_k ubar + c_k,          rhat_j = C_j m_s(j) + D_j ubar + r_j,

backward, the costates collect what the rows theta_j of the terms pull at, by back-propagation,

    eta_k = A_k' eta_{k+1} + sum over terms at k of C_j' theta_j,

and with v_k = 1/beta_k and v_init = 1/alpha the step in the states is

    dx_0 = g_0 - v_init eta_0,   dx_{k+1} = A_k dx_k + B_k du + c_k - v_k eta_{k+1}.

The sensitivities Psi_k of all term rows to x_{k+1} obey the transposed recursion; only terms behind stage k have any,
and terms are ordered by stage, so Psi_k holds the last M_k of the M rows.  The Jacobian of the rows in a block is

    J_b = sum over stages with block b of Psi_k B_k  +  sum over terms with block b of D_j,

and slack in the dynamics arrives there as noise of covariance Sigma = I + sum_k v_k Psi_k Psi_k' + v_init Psi_0 Psi_0',
one M x M matrix a sample.

Only the controls couple the samples.  A :class:`Batch` is therefore any part of them: large data go through the sweeps
one cache-sized batch after the other.  Nothing here depends on rho or mu.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..network.linear_stages import LinearStage
from .subproblem import Subproblem
from .terms import LinearTerm, Stack

__all__ = ["Batch"]

Array = NDArray[np.float64]
Arrays = tuple[Array, ...]


class Use(NamedTuple):
    """One of the places where a control block acts: its stage or term, and the first of the term rows it reaches."""

    stage: LinearStage
    psi: Array
    first_row: int


@dataclass(eq=False)
class Batch:
    """Some samples of a subproblem.

    Attributes
    ----------
    dynamics : tuple of K - 1 LinearStage
    outputs : tuple of LinearStage
        C_j and D_j of the terms.
    output_stages : tuple of int
        s(j), in order.
    blocks, output_blocks : tuples of int
        c(k) and d(j).
    num_blocks : int
    slack_variance : tuple of K - 1 floats
        v_k = 1/beta_k; zero for an eliminated state.
    initial_variance : float
        1/alpha; zero for a known x_0.
    num_rows : int
        M.
    has_slack : bool
        Whether a state is a variable; Sigma is the identity otherwise.
    """

    dynamics: tuple[LinearStage, ...]
    outputs: tuple[LinearStage, ...]
    output_stages: tuple[int, ...]
    blocks: tuple[int, ...]
    output_blocks: tuple[int, ...]
    num_blocks: int
    slack_variance: tuple[float, ...]
    initial_variance: float = 0.0

    def __post_init__(self) -> None:
        # dynamics first, then terms
        self._stages = (*self.dynamics, *self.outputs)
        self._blocks = (*self.blocks, *self.output_blocks)
        ends = list(accumulate([output.num_outputs for output in self.outputs], initial=0))
        self.num_rows = ends[-1]
        self.has_slack = self.initial_variance > 0 or max(self.slack_variance, default=0.0) > 0
        # where the rows of each term stand among those of all, and the terms of every state x_0..x_{K-1}
        self._cuts = tuple(map(slice, ends[:-1], ends[1:]))
        self._terms_at: list[list[int]] = [[] for _ in range(len(self.dynamics) + 1)]
        for j, stage in enumerate(self.output_stages):
            self._terms_at[stage].append(j)

    @classmethod
    def of(cls, subproblem: Subproblem) -> Batch:
        """All samples of a subproblem."""
        terms: tuple[LinearTerm, ...] = tuple(subproblem.terms)
        return cls(
            dynamics=tuple(subproblem.dynamics),
            outputs=tuple([term.output for term in terms]),
            output_stages=tuple([term.stage for term in terms]),
            blocks=tuple(subproblem.blocks),
            output_blocks=tuple([term.block for term in terms]),
            num_blocks=len(subproblem.controls),
            slack_variance=subproblem.slack_variance,
            initial_variance=subproblem.initial_variance,
        )

    @classmethod
    def of_network(cls, stages: Sequence[LinearStage], slack_variance: Sequence[float]) -> Batch:
        """A feed-forward network: every stage has a block of its own, and the last one is the term."""
        last = len(stages) - 1
        return cls(
            dynamics=tuple(stages[:-1]),
            outputs=(stages[-1],),
            output_stages=(last,),
            blocks=tuple(range(last)),
            output_blocks=(last,),
            num_blocks=last + 1,
            slack_variance=tuple(slack_variance),
        )

    def rows(self, samples: slice) -> Batch:
        """Some of these samples (views)."""
        dynamics, outputs = (tuple(stage.rows(samples) for stage in part) for part in (self.dynamics, self.outputs))
        return replace(self, dynamics=dynamics, outputs=outputs)

    @property
    def num_samples(self) -> int:
        return self.outputs[0].num_samples

    @property
    def num_inputs(self) -> int:
        return self._stages[0].num_inputs

    def _split(self, theta: Array) -> list[Array]:
        """The rows of every term."""
        return [theta] if len(self._cuts) == 1 else [theta[:, cut] for cut in self._cuts]

    # forward

    def predict(
        self,
        mean_controls: Sequence[Array] | None,
        gaps: Stack,
        residuals: Stack,
        initial_gap: Array | None = None,
    ) -> Array:
        """rhat, (N, M): the mean recursion with the controls ubar (None: zero), gaps c_k, residuals r_j and g_0."""
        mean, rows = initial_gap, []
        steps = (None,) * self.num_blocks if mean_controls is None else mean_controls
        for k, terms in enumerate(self._terms_at):
            for j in terms:
                rows.append(_affine(self.outputs[j], mean, steps[self.output_blocks[j]], residuals[j]))
            if k < len(self.dynamics):
                mean = _affine(self.dynamics[k], mean, steps[self.blocks[k]], gaps[k])
        return _side_by_side(rows)

    def tangent(self, steps: Sequence[Array]) -> Array:
        """J w, (N, M), for one w_b a block."""
        dx, rows = None, []
        for k, terms in enumerate(self._terms_at):
            for j in terms:
                rows.append(self.outputs[j].apply(dx, steps[self.output_blocks[j]]))
            if k < len(self.dynamics):
                dx = self.dynamics[k].apply(dx, steps[self.blocks[k]])
        return _side_by_side(rows)

    def recover(
        self, du: Sequence[Array], etas: Sequence[Array], gaps: Stack, initial_gap: Array | None = None
    ) -> Arrays:
        """dx_0..dx_{K-1} from du, the costates of :meth:`back_propagate`, the gaps and g_0."""
        first = initial_gap
        if self.initial_variance > 0:
            first = (0.0 if first is None else first) - self.initial_variance * self.initial_costate(etas)
        dx = [np.zeros((len(etas[-1]), self.num_inputs)) if first is None else first]
        for k, (stage, variance) in enumerate(zip(self.dynamics, self.slack_variance, strict=True)):
            following = stage.apply(None if k == 0 and first is None else dx[k], du[self.blocks[k]])
            following += gaps[k]
            if variance > 0:
                following -= variance * etas[k]
            dx.append(following)
        return tuple(dx)

    # backward

    def back_propagate(self, theta: Array) -> Arrays:
        """eta_1..eta_{K-1}, and theta itself, (N, M), last."""
        etas, thetas = [theta], self._split(theta)
        costate: Array | None = None
        for k in range(len(self.dynamics), 0, -1):
            costate = self._costate(k, thetas, costate)
            etas.append(costate)
        return tuple(reversed(etas))

    def initial_costate(self, etas: Sequence[Array]) -> Array:
        """eta_0."""
        return self._costate(0, self._split(etas[-1]), etas[0] if self.dynamics else None)

    def _costate(self, k: int, thetas: Sequence[Array], following: Array | None) -> Array:
        total = None if following is None else self.dynamics[k].transpose_state(following)
        for j in self._terms_at[k]:
            part = self.outputs[j].transpose_state(thetas[j])
            total = part if total is None else total + part
        assert total is not None
        return total

    def pull(self, etas: Sequence[Array]) -> Array:
        """J' theta, (P,), from the costates of :meth:`back_propagate`."""
        pulled: dict[int, Array] = {}
        pulls = (*etas[:-1], *self._split(etas[-1]))
        for stage, block, eta in zip(self._stages, self._blocks, pulls, strict=True):
            part = stage.transpose_control(eta)
            pulled[block] = pulled[block] + part if block in pulled else part
        return np.concatenate([pulled[block] for block in range(self.num_blocks)])

    def adjoint(self, theta: Array) -> Array:
        """J' theta: (N, M) -> (P,)."""
        return self.pull(self.back_propagate(theta))

    # sensitivities

    @cached_property
    def sensitivities(self) -> Arrays:
        """Psi_0..Psi_{K-2}: of the last M_k rows in x_{k+1}, (N, M_k, n_{k+1})."""
        psis: list[Array] = []
        for k in range(len(self.dynamics), 0, -1):
            psis.append(self._sensitivity(k, psis[-1] if psis else None))
        return tuple(reversed(psis))

    @cached_property
    def initial_sensitivity(self) -> Array:
        """Of all rows in x_0, (N, M, n_0)."""
        return self._sensitivity(0, self.sensitivities[0] if self.dynamics else None)

    def _sensitivity(self, k: int, following: Array | None) -> Array:
        later = None if following is None else self.dynamics[k].carry_output(following)
        if later is not None and not self._terms_at[k]:
            return later
        parts = [self.outputs[j].carry_output(self._identities[j]) for j in self._terms_at[k]]
        parts += [] if later is None else [later]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    @cached_property
    def _identities(self) -> tuple[Array, ...]:
        """Of the rows of every term in themselves, (N, m, m)."""
        widths = [output.num_outputs for output in self.outputs]
        return tuple([np.broadcast_to(np.eye(m), (self.num_samples, m, m)) for m in widths])

    @cached_property
    def noise(self) -> Array:
        """Sigma, (N, M, M)."""
        noise = np.zeros((self.num_samples, self.num_rows, self.num_rows))
        noise += np.eye(self.num_rows)
        if self.initial_variance > 0:
            psi = self.initial_sensitivity
            noise += self.initial_variance * (psi @ psi.transpose(0, 2, 1))
        for psi, variance in zip(self.sensitivities, self.slack_variance, strict=True):
            if variance > 0:
                first = self.num_rows - psi.shape[1]
                reached = noise[:, first:, first:]  # a view
                reached += variance * (psi @ psi.transpose(0, 2, 1))
        return noise

    def noise_product(self, theta: Array) -> Array:
        """Sigma theta, (N, M)."""
        if not self.has_slack:
            return theta
        product: Array = (self.noise @ theta[:, :, None])[:, :, 0]
        return product

    def noise_solve(self, right: Array) -> Array:
        """Sigma^-1 right, (N, M)."""
        if not self.has_slack:
            return right
        if right.shape[1] == 1:
            return right / self.noise[:, 0]
        solution = np.linalg.solve(self.noise, right[:, :, None])[:, :, 0]
        return np.asarray(solution, dtype=float)

    def uses(self, *, whitened: bool = False) -> Iterator[tuple[int, list[Use]]]:
        """Every block with the places where it acts; with ``whitened`` the rows are those of L^-1 J, Sigma = L L'."""
        psis: Iterable[Array] = (*self.sensitivities, *self._identities)
        firsts = [self.num_rows - psi.shape[1] for psi in self.sensitivities] + [cut.start for cut in self._cuts]
        if whitened and self.has_slack:
            psis = map(_Root(self.noise).solve, psis, firsts)
        found: list[list[Use]] = [[] for _ in range(self.num_blocks)]
        for stage, block, psi, first in zip(self._stages, self._blocks, psis, firsts, strict=True):
            found[block].append(Use(stage, psi, first))
        return enumerate(found)

    def whitened_jacobian(self) -> Array:
        """L^-1 J with Sigma = L L' sample by sample, (N M, P)."""
        uses = list(self.uses(whitened=True))
        ends = list(accumulate([places[0].stage.num_controls for _, places in uses]))
        rows = np.empty((self.num_samples, self.num_rows, ends[-1]))
        for (_, places), end in zip(uses, ends, strict=True):
            write_rows(places, rows[:, :, end - places[0].stage.num_controls : end])
        return rows.reshape(-1, ends[-1])

    def squared_size(self) -> float:
        """The sum of the squared entries of L^-1 J: the trace of J' Sigma^-1 J."""
        return sum(_squared_size(places, self.num_rows) for _, places in self.uses(whitened=True))


def write_rows(places: Sequence[Use], out: Array) -> None:
    """Write the rows of the Jacobian in one block, (N, M, P_b), into ``out``."""
    if len(places) == 1 and places[0].first_row == 0 and places[0].psi.shape[1] == out.shape[1]:
        places[0].stage.write_control_rows(places[0].psi, out)
        return
    out[...] = 0.0
    for use in places:
        rows = np.empty((*use.psi.shape[:2], out.shape[2]))
        use.stage.write_control_rows(use.psi, rows)
        out[:, use.first_row : use.first_row + rows.shape[1]] += rows


def _squared_size(places: Sequence[Use], num_rows: int) -> float:
    if len(places) == 1:
        return places[0].stage.squared_size(places[0].psi)
    stage = places[0].stage
    rows = np.empty((stage.num_samples, num_rows, stage.num_controls))
    write_rows(places, rows)
    return float(np.vdot(rows, rows))


class _Root:
    """L of Sigma = L L', sample by sample; where it is a number, 1/L."""

    def __init__(self, noise: Array) -> None:
        self._is_scalar = noise.shape[1] == 1
        self._root = 1.0 / np.sqrt(noise) if self._is_scalar else np.linalg.cholesky(noise)

    def solve(self, psi: Array, first: int) -> Array:
        """L^-1 times rows that are zero above row ``first``, from there on; psi has the first of them."""
        if self._is_scalar:
            return self._root * psi
        missing = self._root.shape[1] - first - psi.shape[1]
        if missing:
            psi = np.concatenate([psi, np.zeros((len(psi), missing, psi.shape[2]))], axis=1)
        return np.asarray(np.linalg.solve(self._root[:, first:, first:], psi), dtype=float)


def _affine(stage: LinearStage, dx: Array | None, du: Array | None, gap: Array) -> Array:
    """A dx + B du + c, None standing for zero."""
    if du is not None:
        value = stage.apply(dx, du)
    elif dx is not None:
        value = stage.apply_state(dx)
    else:
        return gap
    value += gap
    return value


def _side_by_side(rows: Sequence[Array]) -> Array:
    return rows[0] if len(rows) == 1 else np.concatenate(rows, axis=1)
