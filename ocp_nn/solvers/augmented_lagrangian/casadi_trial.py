"""Reads CasADi functions, one text a line of standard input, within a limit of memory; exit code 0 if all are sound.

A program of its own, ``python casadi_trial.py BYTES same|other < texts``, because reading a damaged function may ask
for any amount of memory, never end, or take the process down, then or when the function is first evaluated.  ``same``
says that the texts were written by the version of CasADi that reads them: it then writes the same text again.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import casadi as ca

try:
    import resource
except ImportError:  # not on Windows; the time is limited there all the same
    resource = None  # type: ignore[assignment]


def main(memory: str, version: str) -> None:
    if resource is not None:
        resource.setrlimit(resource.RLIMIT_AS, (int(memory), int(memory)))
    for text in sys.stdin.read().split():
        function = ca.Function.deserialize(text)
        if version == "same" and function.serialize() != text:
            raise ValueError("the function does not come back as it was")
        for part in (function, *function.find_functions()):
            check_instructions(part)
        evaluate(function)


def check_instructions(function: ca.Function) -> None:
    """Raise ``IndexError`` unless every instruction stays within arguments, results and work."""
    if function.class_name() != "SXFunction":
        return
    for k in range(function.n_instructions()):
        kind = function.instruction_id(k)
        inputs, outputs = function.instruction_input(k), function.instruction_output(k)
        if kind == ca.OP_INPUT:
            check_entry(inputs, function.n_in(), function.nnz_in)
            inputs = []
        if kind == ca.OP_OUTPUT:
            check_entry(outputs, function.n_out(), function.nnz_out)
            outputs = []
        if not all(0 <= index < function.sz_w() for index in (*inputs, *outputs)):
            raise IndexError(f"instruction {k} of {function.name()} leaves the work vector")


def check_entry(address: list[int], count: int, size: Callable[[int], int]) -> None:
    argument, entry = address
    if not (0 <= argument < count and 0 <= entry < size(argument)):
        raise IndexError(f"there is no entry {entry} of argument {argument}")


def evaluate(function: ca.Function) -> None:
    """The function and its derivatives at one point."""
    point = [ca.DM.ones(function.sparsity_in(k)) for k in range(function.n_in())]
    function.call(point)
    function.jacobian().call([*point, *(ca.DM.ones(function.sparsity_out(k)) for k in range(function.n_out()))])
    function.map(3).call([ca.repmat(value, 1, 3) for value in point])


if __name__ == "__main__":
    main(*sys.argv[1:])
