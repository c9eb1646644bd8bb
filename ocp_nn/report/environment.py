"""The versions and threads a number was measured with."""

from __future__ import annotations

import os
import platform
from importlib import metadata

from threadpoolctl import threadpool_info

__all__ = ["environment", "environment_line"]

_PACKAGES = ("casadi", "numpy", "scipy")


def environment() -> dict[str, str | int]:
    """Versions of Python and the packages that compute, the machine's cores, and the threads BLAS may use."""
    from ..base.version import VERSION

    blas = [entry["num_threads"] for entry in threadpool_info() if entry["user_api"] == "blas"]
    return {
        "ocp_nn": VERSION,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in _PACKAGES},
        "platform": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count() or 1,
        "blas_threads": max(blas, default=1),
    }


def environment_line() -> str:
    """:func:`environment` for people, in one line."""
    e = environment()
    return (
        f"ocp_nn {e['ocp_nn']}, Python {e['python']}, CasADi {e['casadi']}, NumPy {e['numpy']}, SciPy {e['scipy']}, "
        f"{e['platform']}, {e['cores']} cores, {e['blas_threads']} BLAS threads"
    )
