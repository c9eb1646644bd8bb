"""Bounds on controls and sparsity of controls: functions h(u) that have a proximal point, one mechanism for all.

The split u = p with the multiplier m and the penalty g, and p chosen best, leaves the Moreau envelope of h:

    e(u; m, g) = min_p h(p) + <m, u - p> + g/2 ||u - p||^2
               = h(p) + g/2 ||v - p||^2 - ||m||^2/(2 g),        v = u + m/g,   p = prox_{h/g}(v)

with the gradient g (v - p), which is the next multiplier (Rockafellar 1973; for the split, Boyd et al. 2011, section
6.4, but with p eliminated and not alternated).  For bounds h is an indicator and p a projection; for h = tau |u| the
envelope is Huber's function of v, for a group Huber's function of its norm.

As rows of least squares, e is 1/2 (t + du)' w (t + du) to first order with w t = g (v - p): for bounds w = g and
t = v - p outside, no row inside; for both kinds of sparsity the reweighted squares w = min(g, tau/||v||), t = v, which
bound the envelope from above.

At the end p itself is the solution: on its bounds exactly, and with exact zeros.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...base import checks

__all__ = ["ControlBounds", "ControlSet", "GroupLasso", "Lasso"]

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

# Norm, relative to the mean, below which groups are all alike to the adaptive lasso.
_LEAST_NORM = 1e-3

_ENTRIES = checks.Kind("indices of controls: integers >= 0, none twice", lambda value: _are_indices(value))


def _are_indices(value: Any) -> bool:
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):
        return False
    if array.ndim != 1 or not array.size or array.dtype.kind not in "iu":
        return False
    return bool((array >= 0).all()) and len(np.unique(array)) == len(array)


class ControlSet(ABC):
    """A function h of some controls.

    Attributes
    ----------
    entries : array of int, or None
        Which, in the vector of all controls; None is all.
    name : str
        For messages.
    """

    entries: Indices | None
    name: str

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name})"

    def of(self, flat: Array) -> Array:
        """The controls that it looks at."""
        return flat if self.entries is None else flat[self.entries]

    def indices(self, num_controls: int) -> Indices:
        """Which controls these are."""
        return np.arange(num_controls) if self.entries is None else self.entries

    def size(self, num_controls: int) -> int:
        return num_controls if self.entries is None else len(self.entries)

    def check(self, num_controls: int) -> None:
        """Raise ``ValueError`` unless all its controls exist."""
        if self.entries is not None and self.entries.max() >= num_controls:
            raise ValueError(f"{self.name}: control {self.entries.max()} of a problem with {num_controls} controls")

    @abstractmethod
    def cost(self, u: Array) -> float:
        """h(u) where it is finite."""

    @abstractmethod
    def prox(self, v: Array, penalty: float) -> Array:
        """The p that minimises h(p) + g/2 ||v - p||^2."""

    @abstractmethod
    def squares(self, v: Array, penalty: float) -> tuple[Array, Array]:
        """w and t of least squares."""

    @abstractmethod
    def product(self, v: Array, penalty: float, direction: Array) -> Array:
        """The second derivative of the envelope times a direction."""

    @abstractmethod
    def violation(self, u: Array) -> Array:
        """How far u is from where h is finite, entry by entry."""

    @abstractmethod
    def dual_violation(self, u: Array, multiplier: Array) -> Array:
        """How far the multiplier is from being a subgradient of h at u, entry by entry."""

    def outside(self, u: Array, multiplier: Array, penalty: float) -> Array:
        """v - p."""
        v = u + multiplier / penalty
        return np.asarray(v - self.prox(v, penalty))

    def envelope(self, u: Array, multiplier: Array, penalty: float) -> float:
        """e(u; m, g)."""
        v = u + multiplier / penalty
        p = self.prox(v, penalty)
        square = penalty * float((v - p) @ (v - p)) - float(multiplier @ multiplier) / penalty
        return self.cost(p) + 0.5 * square


class ControlBounds(ControlSet):
    """l <= u <= b, entry by entry.

    Parameters
    ----------
    lower, upper : array_like
        One number, or one for each of ``entries``; infinite where there is none.
    entries : sequence of int, optional
        Which controls, in the vector of all of them; all by default.
    name : str

    Raises
    ------
    ValueError
        For bounds that cross, are NaN or have another length than ``entries``.
    """

    def __init__(
        self,
        lower: ArrayLike = -np.inf,
        upper: ArrayLike = np.inf,
        *,
        entries: ArrayLike | None = None,
        name: str = "control bounds",
    ) -> None:
        checks.check("entries", entries, checks.optional(_ENTRIES))
        checks.check("name", name, checks.instance(str, "a string"))
        self.entries = None if entries is None else np.asarray(entries, dtype=np.intp)
        self.lower, self.upper = (np.asarray(bound, dtype=float) for bound in (lower, upper))
        self.name = name
        for bound in (self.lower, self.upper):
            fits = bound.ndim == 0 or (bound.ndim == 1 and (self.entries is None or len(bound) == len(self.entries)))
            if not fits:
                of = "all controls" if self.entries is None else f"{len(self.entries)} controls"
                raise ValueError(f"{name}: expected one bound or one for each of {of}, received {bound.shape}")
        if not np.all(self.lower <= self.upper):
            raise ValueError(f"{name}: every lower bound must be <= its upper bound, and neither may be NaN")

    def check(self, num_controls: int) -> None:
        super().check(num_controls)
        for bound in (self.lower, self.upper):
            if self.entries is None and bound.ndim == 1 and len(bound) != num_controls:
                raise ValueError(f"{self.name}: {len(bound)} bounds for {num_controls} controls")

    def cost(self, u: Array) -> float:
        return 0.0

    def prox(self, v: Array, penalty: float) -> Array:
        return np.clip(v, self.lower, self.upper)

    def squares(self, v: Array, penalty: float) -> tuple[Array, Array]:
        outside = v - self.prox(v, penalty)
        return np.asarray(penalty * (outside != 0.0)), outside

    def product(self, v: Array, penalty: float, direction: Array) -> Array:
        return np.asarray(self.squares(v, penalty)[0] * direction)

    def violation(self, u: Array) -> Array:
        return np.abs(u - self.prox(u, 1.0))

    def dual_violation(self, u: Array, multiplier: Array) -> Array:
        """A positive multiplier belongs to the upper bound: its size, or the distance to the bound where smaller."""
        upwards = np.minimum(np.maximum(multiplier, 0.0), np.maximum(self.upper - u, 0.0))
        return np.maximum(upwards, np.minimum(np.maximum(-multiplier, 0.0), np.maximum(u - self.lower, 0.0)))


class Lasso(ControlSet):
    """h(u) = tau ||u||_1: single controls become exactly zero (Tibshirani 1996).

    Parameters
    ----------
    weight : float
        tau > 0.
    entries : sequence of int, optional
        All controls by default.
    name : str
    """

    def __init__(self, weight: float, *, entries: ArrayLike | None = None, name: str = "lasso") -> None:
        checks.check("weight", weight, checks.POSITIVE)
        checks.check("entries", entries, checks.optional(_ENTRIES))
        checks.check("name", name, checks.instance(str, "a string"))
        self.weight, self.name = float(weight), name
        self.entries = None if entries is None else np.asarray(entries, dtype=np.intp)

    def with_weight(self, weight: float) -> Lasso:
        """The same of another weight."""
        return Lasso(weight, entries=self.entries, name=self.name)

    def cost(self, u: Array) -> float:
        return self.weight * float(np.abs(u).sum())

    def prox(self, v: Array, penalty: float) -> Array:
        return np.asarray(np.sign(v) * np.maximum(np.abs(v) - self.weight / penalty, 0.0))

    def squares(self, v: Array, penalty: float) -> tuple[Array, Array]:
        with np.errstate(divide="ignore"):
            return np.minimum(penalty, self.weight / np.abs(v)), v

    def product(self, v: Array, penalty: float, direction: Array) -> Array:
        return np.asarray(penalty * (np.abs(v) <= self.weight / penalty) * direction)

    def violation(self, u: Array) -> Array:
        return np.zeros_like(u)

    def dual_violation(self, u: Array, multiplier: Array) -> Array:
        """Beyond the weight; and of a control that is not zero, its size, or the distance to tau sign(u) where smaller.

        So that an interior-point method's almost zero counts as one.
        """
        beyond = np.maximum(np.abs(multiplier) - self.weight, 0.0)
        return np.maximum(beyond, np.minimum(np.abs(u), np.abs(multiplier - self.weight * np.sign(u))))


class GroupLasso(ControlSet):
    """h(u) = tau sum_G a_G sqrt(|G|) ||u_G||: whole groups of controls become exactly zero (Yuan and Lin 2006).

    Parameters
    ----------
    weight : float
        tau > 0.
    groups : sequence of sequences of int
        Controls of every group, in the vector of all controls; no control is in two of them.
    factors : sequence of float, optional
        a_G > 0, one by default: of the adaptive lasso (Zou 2006) a negative power of the norms in an earlier solution.
    name : str

    Raises
    ------
    ValueError
        For groups that are empty or overlap, or factors that are not positive, one a group.
    """

    def __init__(
        self,
        weight: float,
        groups: Sequence[ArrayLike],
        *,
        factors: ArrayLike | None = None,
        name: str = "group lasso",
    ) -> None:
        checks.check("weight", weight, checks.POSITIVE)
        checks.check("name", name, checks.instance(str, "a string"))
        checks.check("groups", groups, checks.sequence(_ENTRIES, "a sequence of groups of indices", least=1))
        self.weight, self.name, self._factors = float(weight), name, factors
        self.groups: tuple[Indices, ...] = tuple(np.asarray(group, dtype=np.intp) for group in groups)
        self.entries = np.concatenate(self.groups)
        if len(np.unique(self.entries)) != len(self.entries):
            raise ValueError(f"{name}: a control may be in one group only")
        sizes = np.array([len(group) for group in self.groups])
        self._of_entry = np.repeat(np.arange(len(sizes)), sizes)
        each = np.ones(len(sizes)) if factors is None else checks.real_array("factors", factors)
        if each.shape != (len(sizes),) or not (np.isfinite(each).all() and (each > 0).all()):
            raise ValueError(f"{name}: expected a positive factor for each of {len(sizes)} groups, received {each}")
        self._weights = self.weight * each * np.sqrt(sizes)

    def with_weight(self, weight: float) -> GroupLasso:
        """The same of another weight."""
        return GroupLasso(weight, self.groups, factors=self._factors, name=self.name)

    def adapted(self, controls: Array, power: float = 2.0) -> GroupLasso:
        """The same with factors ||u_G||^-power of all controls, (P,), relative to their mean (Zou 2006).

        A group that is zero there stays so.
        """
        norms = self.norms(controls[self.entries])
        relative = norms / max(float(norms.mean()), np.finfo(float).tiny)
        factors = np.maximum(relative, _LEAST_NORM) ** -power
        return GroupLasso(self.weight, self.groups, factors=factors, name=self.name)

    @property
    def num_groups(self) -> int:
        return len(self._weights)

    def norms(self, u: Array) -> Array:
        """||u_G|| of every group."""
        return np.sqrt(np.bincount(self._of_entry, weights=u * u, minlength=self.num_groups))

    def is_zero(self, u: Array) -> NDArray[np.bool_]:
        """Which groups are exactly zero."""
        return self.norms(u) == 0.0

    def cost(self, u: Array) -> float:
        return float(self._weights @ self.norms(u))

    def _shares(self, v: Array, penalty: float) -> Array:
        """What prox leaves of every entry, as a share."""
        norms = self.norms(v)
        with np.errstate(divide="ignore", invalid="ignore"):
            left = np.where(norms > 0, np.maximum(1.0 - self._weights / (penalty * norms), 0.0), 0.0)
        return left[self._of_entry]

    def prox(self, v: Array, penalty: float) -> Array:
        return self._shares(v, penalty) * v

    def squares(self, v: Array, penalty: float) -> tuple[Array, Array]:
        return penalty * (1.0 - self._shares(v, penalty)), v

    def product(self, v: Array, penalty: float, direction: Array) -> Array:
        """g inside; tau/||v|| across v, and nothing along it, outside."""
        norms, weights = self.norms(v), self.squares(v, penalty)[0]
        is_outside = (norms * penalty > self._weights)[self._of_entry]
        unit = np.where(is_outside, v / np.where(norms > 0, norms, 1.0)[self._of_entry], 0.0)
        along = np.bincount(self._of_entry, weights=unit * direction, minlength=self.num_groups)[self._of_entry]
        return np.asarray(weights * (direction - unit * along))

    def violation(self, u: Array) -> Array:
        return np.zeros_like(u)

    def dual_violation(self, u: Array, multiplier: Array) -> Array:
        norms, prices = self.norms(u), self.norms(multiplier)
        inside = np.maximum(prices - self._weights, 0.0)[self._of_entry]
        unit = u / np.where(norms > 0, norms, 1.0)[self._of_entry]
        outside = np.abs(multiplier - self._weights[self._of_entry] * unit)
        return np.asarray(np.where((norms == 0.0)[self._of_entry], inside, outside))
