"""Losses as plain values, for files and comparisons."""

from __future__ import annotations

from typing import Any

import casadi as ca

from .losses import Custom, Huber, Loss, loss_named

__all__ = ["describe_loss", "loss_of_description"]


def describe_loss(loss: Loss) -> dict[str, Any]:
    """{"name"}, with "delta" for Huber's and the serialised "function" for a loss of one's own."""
    if isinstance(loss, Custom):
        return {"name": "custom", "function": loss.function.serialize()}
    return {"name": loss.name} | ({"delta": loss.delta} if isinstance(loss, Huber) else {})


def loss_of_description(description: dict[str, Any]) -> Loss:
    """The inverse of :func:`describe_loss`.

    Raises
    ------
    ValueError
        For an unknown name, or a delta out of range.
    """
    if description["name"] == "custom":
        return Custom(ca.Function.deserialize(description["function"]))
    if description["name"] == "huber":
        return Huber(description["delta"])
    return loss_named(description["name"])
