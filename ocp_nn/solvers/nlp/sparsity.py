"""The sparsity of a transcription's KKT matrix [[H, J'], [J, 0]], as a table and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import casadi as ca
import numpy as np

from .layout import Block

__all__ = ["draw_kkt", "kkt_table"]

Blocks = Sequence[Block]

# Variables or constraints in more blocks than these are not listed: no screen is that wide.
_MOST_BLOCKS = 40


def kkt_table(variables: Blocks, constraints: Blocks, hessian: ca.Sparsity, jacobian: ca.Sparsity) -> str:
    """Sizes and nonzeros in words, block by block where there are not too many; ``hessian`` is an upper triangle."""
    m, n = jacobian.shape
    return "\n".join(
        [
            f"{n} variables, {m} constraints",
            f"Hessian of the Lagrangian, upper triangle: {hessian.nnz()} nonzeros of {n * (n + 1) // 2}",
            f"Jacobian of the constraints: {jacobian.nnz()} nonzeros of {n * m}",
            "",
            *_block_table("H", variables, variables, hessian),
            *_block_table("J", constraints, variables, jacobian),
        ]
    )


def draw_kkt(ax: Any, variables: Blocks, constraints: Blocks, hessian: ca.Sparsity, jacobian: ca.Sparsity) -> None:
    """The whole matrix into matplotlib axes, with the names of the blocks."""
    m, n = jacobian.shape
    whole = hessian + hessian.T
    corner = ca.Sparsity(m, m)
    kkt = ca.blockcat([[ca.DM(whole, 1), ca.DM(jacobian.T, 1)], [ca.DM(jacobian, 1), ca.DM(corner)]])
    ax.spy(kkt.sparse(), markersize=max(0.3, 200 / kkt.shape[0]), color="C0")
    blocks = [(b.name, (b.start + b.stop) / 2) for b in variables]
    blocks += [(b.name, n + (b.start + b.stop) / 2) for b in constraints]
    names, middles = zip(*blocks, strict=True)
    ax.set_xticks(middles, names)
    ax.set_yticks(middles, names)


def _block_table(title: str, rows: Sequence[Block], columns: Sequence[Block], sparsity: ca.Sparsity) -> list[str]:
    """Nonzeros of every pair of blocks."""
    if not rows:
        return []
    if len(columns) > _MOST_BLOCKS:
        return [f"{title}: {len(rows)} by {len(columns)} blocks"]
    i, j = (np.array(index) for index in sparsity.get_triplet())
    edges = [np.array([block.start for block in blocks] + [blocks[-1].stop]) for blocks in (rows, columns)]
    counts = np.histogram2d(i, j, bins=edges)[0].astype(int) if len(i) else np.zeros((len(rows), len(columns)), int)
    width = max(8, len(str(counts.max())) + 2)
    header = f"{title:<4}" + "".join(f"{block.name:>{width}}" for block in columns)
    body = (
        f"{row.name:<4}" + "".join(f"{count or '.':>{width}}" for count in line)
        for row, line in zip(rows, counts, strict=True)
    )
    return [header, *body]
