"""Hidden units that a strong weight decay has put out are given new weights.

With strong decay the linear part explains what it can, and a unit that does not earn its weights loses all of them: its
incoming and its outgoing weights go to zero together.  There the gradient of both is zero, at every weaker decay too,
so that a path from strong to weak decays would end at a linear model although the data bend.  So before each solve such
a unit begins anew as at the start: standard random weights in, and small ones out.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...network.state_space import StateSpaceModel

__all__ = ["revived"]

Array = NDArray[np.float64]

# A unit is out where the product of the norms of its weights in and out is below this, in standard units.
_OUT = 1e-2

# New weights out, as a share of standard random ones, as in the linear start.
_SMALL = 0.01


def revived(model: StateSpaceModel, theta: Array, seed: int) -> Array:
    """The parameters (P,) with new weights for hidden units that are out; the same vector where none is."""
    if model.architecture is None:
        return theta
    theta = theta.copy()
    parts, fresh = model.architecture.split(theta), model.architecture.split(model.initial_parameters(seed))  # views
    for prefix in ("", "output_"):
        layer = 1
        while (after := f"{prefix}W{layer + 1}") in parts:
            weights, bias = f"{prefix}W{layer}", f"{prefix}b{layer}"
            out = np.linalg.norm(parts[weights], axis=1) * np.linalg.norm(parts[after], axis=0) < _OUT
            parts[weights][out], parts[bias][out] = fresh[weights][out], fresh[bias][out]
            parts[after][:, out] = _SMALL * fresh[after][:, out]
            layer += 1
    return theta
