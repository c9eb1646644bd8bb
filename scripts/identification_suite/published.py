"""What others have published on these records: free-run errors on the same test parts.

Figures are taken over as they are stated; sources say what is known about windows and parts.  The table of ten
baselines of Champneys et al. could not be read itself: two of its figures are known at second hand.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PUBLISHED", "Published"]


@dataclass(frozen=True)
class Published:
    """A figure: the set and its part, the method, the error as printed with its unit, and where it stands."""

    dataset: str
    part: str
    method: str
    error: str
    source: str


_CHAMPNEYS = "Champneys, Beintema, Toth, Schoukens and Rogers 2024, arXiv 2405.10779, as quoted by others"

PUBLISHED: tuple[Published, ...] = (
    Published("cascaded_tanks", "test", "polynomial NARX", "0.413 V", _CHAMPNEYS),
    Published("silverbox", "multisine or arrow (not said)", "Gaussian process NARX", "0.301 mV", _CHAMPNEYS),
    Published("silverbox", "multisine or arrow (not said)", "state of the art there", "0.36 mV", _CHAMPNEYS),
)
