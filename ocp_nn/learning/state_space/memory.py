"""What an identification has done so far, kept in a folder, so that one that was ended goes on.

A path or a judgement that came to its end is kept by :class:`joblib.Memory` under its start, the records and the
settings: the same call finds it there.  What a deadline cut short is not kept.  The last training leaves checkpoints
(:func:`ocp_nn.solve`), whose names stand for the problem and where it began.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from ...base.version import VERSION
from ...network.records import Records
from ...problem.identification import IdentificationProblem
from ...problem.result import Result
from ...solvers.augmented_lagrangian.files import load
from ...solvers.augmented_lagrangian.options import Options
from ...solvers.augmented_lagrangian.solve import solve
from .choice import Candidate, ChoiceSettings, Start, descend, judged

__all__ = ["remembered_judgement", "remembered_path", "trained"]

Found = list[Candidate]


class _CutShort(Exception):
    """Carries what a deadline left unfinished past the memory, which keeps no call that raises."""

    def __init__(self, found: Found) -> None:
        super().__init__(found)
        self.found = found


def remembered_path(
    memory: joblib.Memory, start: Start, records: Records, decays: Sequence[float], settings: ChoiceSettings
) -> Found:
    """:func:`.choice.descend` from its start, or what it has found before."""
    return _remembered(memory, None, start, records, decays, settings)


def remembered_judgement(
    memory: joblib.Memory, begin: Found, records: Records, decays: Sequence[float], settings: ChoiceSettings
) -> Found:
    """:func:`.choice.judged`, or what it has found before on the path of this start."""
    return _remembered(memory, begin, begin[0].start, records, decays, settings)


def _remembered(
    memory: joblib.Memory,
    begin: Found | None,
    start: Start,
    records: Records,
    decays: Sequence[float],
    settings: ChoiceSettings,
) -> Found:
    # what stands in front of a judgement follows from the other arguments, and a deadline decides nothing
    kept = memory.cache(_whole, ignore=["begin", "deadline"])
    step, timeless = "path" if begin is None else "judgement", replace(settings, deadline=np.inf)
    try:
        found: Found = kept(
            step, start, records, tuple(decays), timeless, VERSION, begin=begin, deadline=settings.deadline
        )
    except _CutShort as cut:
        return cut.found
    return found


def _whole(
    step: str,
    start: Start,
    records: Records,
    decays: tuple[float, ...],
    settings: ChoiceSettings,
    version: str,
    begin: Found | None,
    deadline: float,
) -> Found:
    """A path, or from the beginning of one a judgement; raises where a deadline has cut it short."""
    settings = replace(settings, deadline=deadline)
    found = descend(start, records, decays, settings) if begin is None else judged(begin, records, decays, settings)
    if settings.ends():
        raise _CutShort(found)
    return found


def trained(memory: joblib.Memory, problem: IdentificationProblem, chosen: Candidate, options: Options) -> Result:
    """The last training, from its checkpoint where the memory has one.

    Raises
    ------
    ocp_nn.LoadError
        If there is one that cannot be read.
    """
    if memory.location is None:
        return solve(problem, chosen.trajectory, options=options)
    path = _checkpoint(Path(memory.location), problem, chosen, options)
    path.parent.mkdir(parents=True, exist_ok=True)
    begin: Any = load(path) if path.is_file() else chosen.trajectory
    return solve(problem, begin, options=options, checkpoint=path)


def _checkpoint(folder: Path, problem: IdentificationProblem, chosen: Candidate, options: Options) -> Path:
    # a longer limit goes on with the same training
    timeless = replace(options, time_limit=np.inf, max_outer=1)
    begin = [np.ascontiguousarray(np.concatenate([np.ravel(part) for part in chosen.trajectory.states]))]
    of = (chosen.start, chosen.weight_decay, chosen.trajectory.controls, begin, problem.records, timeless, VERSION)
    return folder / f"training-{joblib.hash(of)}.npz"
