"""How many threads BLAS gets: handing small matrices to more than one costs more than it gains."""

from __future__ import annotations

from threadpoolctl import threadpool_limits

from .problem import TrainingProblem

__all__ = ["limited_blas"]

# Order of the factorised matrix up to which one BLAS thread is used.
_ONE_THREAD_SIZE = 2000


def limited_blas(problem: TrainingProblem) -> threadpool_limits:
    """A context in which BLAS uses the number of threads that suits a problem; the global setting comes back after."""
    smaller = min(problem.num_samples * problem.network.num_outputs, problem.network.num_controls)
    return threadpool_limits(1 if smaller <= _ONE_THREAD_SIZE else None, user_api="blas")
