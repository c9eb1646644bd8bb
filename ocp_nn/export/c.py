"""A trained network as C code without dependencies: CasADi's code generator and a plain function around it.

    void NAME_predict(const double *x, double *y);

x (n numbers) and y (m numbers) are in the data's own units; a classifier's y are probabilities, and nothing overflows
on the way to them (the largest logit is subtracted, no exponent of the logistic function is positive).  The file also
exports CasADi's own interface (``NAME``, ``NAME_work``, ...), so that ``casadi.external`` loads the compiled library.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import casadi as ca

from ..base.atomic import atomic_write
from ..network.links import link_named
from ..network.model import Model
from .casadi_function import casadi_function

__all__ = ["generated", "write_c"]

_WRAPPER = """
#ifdef __cplusplus
extern "C" {{
#endif
/* {inputs} inputs: {features}; {outputs} outputs: {targets}; {meaning} */
/* {ranges} */
CASADI_SYMBOL_EXPORT void {name}_predict(const double *x, double *y) {{
  const double *arg[{sz_arg}];
  double *res[{sz_res}];
  casadi_int iw[{sz_iw}];
  double w[{sz_w}];
  arg[0] = x;
  res[0] = y;
  {name}(arg, res, iw, w, 0);
}}
#ifdef __cplusplus
}}
#endif
"""


def write_c(model: Model, path: str | os.PathLike[str], name: str = "model") -> None:
    """Write the model as one C file.

    Parameters
    ----------
    model : Model
    path : path
        ``gcc -O2 -shared -fPIC -o model.so model.c -lm`` makes a library of it.
    name : str
        Of the functions in it.

    Raises
    ------
    ValueError
        If ``name`` is no C identifier, or means something else in C.
    """
    function = casadi_function(model, name)
    code = generated(function) + _wrapper(model, function)
    with atomic_write(path) as file:
        file.write(code.encode())


def generated(function: ca.Function) -> str:
    """The code of CasADi's generator."""
    # the generator writes to files only
    with tempfile.TemporaryDirectory() as folder:
        generator = ca.CodeGenerator(f"{function.name()}.c", {"with_header": False})
        generator.add(function)
        generator.generate(f"{folder}{os.sep}")
        code = (Path(folder) / f"{function.name()}.c").read_text()
        if not code.rstrip().endswith("#endif"):  # CasADi says nothing where the disk is full
            raise OSError(f"{folder}: CasADi could not write its code there; is the disk full?")
        return code


def _wrapper(model: Model, function: ca.Function) -> str:
    return _WRAPPER.format(
        name=function.name(),
        inputs=model.network.num_inputs,
        outputs=model.network.num_outputs,
        features=_comment(model.features),
        targets=_comment(model.targets),
        meaning=_meaning(model),
        ranges=_ranges(model),
        sz_arg=max(function.sz_arg(), 1),
        sz_res=max(function.sz_res(), 1),
        sz_iw=max(function.sz_iw(), 1),
        sz_w=max(function.sz_w(), 1),
    )


def _meaning(model: Model) -> str:
    meaning = link_named(model.link).meaning
    return f"{meaning}; classes {_comment(tuple(map(str, model.classes)))}" if model.classes else meaning


def _ranges(model: Model) -> str:
    if model.x_range is None:
        return "the range of the training inputs is not known"
    rows = zip(model.features, *model.x_range.tolist(), strict=True)
    return "trained on " + ", ".join(f"{_comment((name,))} from {low!r} to {high!r}" for name, low, high in rows)


def _comment(names: tuple[str, ...]) -> str:
    """Names for a C comment: nothing in them may end it or need another character set."""
    return (
        ", ".join(names).encode("ascii", "replace").decode().replace("*/", "* /").replace("\n", " ").replace("\\", "/")
    )
