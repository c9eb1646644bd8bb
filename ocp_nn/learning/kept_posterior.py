"""What estimators share that have a posterior: it is made when it is first asked for, of a fit that converged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from sklearn.utils.validation import check_is_fitted

from ..problem.result import Result

__all__ = ["KeptPosterior"]


class _Posterior(Protocol):
    @property
    def effective_parameters(self) -> float: ...


Kind = TypeVar("Kind", bound=_Posterior)


class KeptPosterior(Generic[Kind]):
    """A base of estimators with a ``result_``.

    Attributes
    ----------
    posterior_ : Posterior or StateSpacePosterior
        In standard units.
    effective_num_parameters_ : float
        gamma.
    """

    if TYPE_CHECKING:
        result_: Result

    def _make_posterior(self) -> Kind:
        raise NotImplementedError

    @property
    def posterior_(self) -> Kind:
        check_is_fitted(self, "result_")
        known: tuple[Result, Kind] | None = vars(self).get("_posterior")
        if known is not None and known[0] is self.result_:
            return known[1]
        if not self.result_.success:
            raise ValueError(
                f"the posterior is that of a minimum, and this fit ended with status {self.result_.status.value!r}: "
                "raise max_iter, loosen tol, or stop nothing early"
            )
        made = self._make_posterior()
        self._posterior = self.result_, made
        return made

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()  # type: ignore[misc, assignment, unused-ignore]
        return {name: value for name, value in state.items() if name != "_posterior"}  # made anew when asked for

    @property
    def effective_num_parameters_(self) -> float:
        return self.posterior_.effective_parameters
