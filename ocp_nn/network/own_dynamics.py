"""The user's own CasADi functions as the two of a state-space model, and Runge-Kutta steps of a differential equation.

The normal form is f(x, v, theta) -> x_next and g(x, v, theta) -> y, columns all, v with no rows where there are no
inputs.  It is expanded into scalar operations where CasADi can: these are evaluated in a fraction of the time.
"""

from __future__ import annotations

import casadi as ca

__all__ = ["normal_form", "runge_kutta"]


def normal_form(dynamics: ca.Function, output: ca.Function) -> tuple[ca.Function, ca.Function]:
    """The two functions in normal form.

    Raises
    ------
    ValueError
        Unless they map columns (x, v, theta), or (x, theta) without inputs, to one column, their widths fit each other
        and the dynamics return a state.
    """
    f, g = _three_arguments("dynamics", dynamics, "x_next"), _three_arguments("output", output, "y")
    for i, what in enumerate(("states", "inputs", "parameters")):
        if f.numel_in(i) != g.numel_in(i):
            raise ValueError(
                f"dynamics and output must take the same x, v and theta, received functions of {f.numel_in(i)} and "
                f"{g.numel_in(i)} {what}"
            )
    if f.numel_out(0) != f.numel_in(0):
        raise ValueError(
            f"dynamics must return the next state, as long as x, received {f.numel_in(0)} states and "
            f"{f.numel_out(0)} numbers returned"
        )
    return f, g


def _three_arguments(name: str, function: ca.Function, returned: str) -> ca.Function:
    if not isinstance(function, ca.Function):
        raise ValueError(f"{name} must be a casadi.Function of (x, v, theta), received a {type(function).__name__}")
    f = function
    _check_columns(name, f)
    x, theta = ca.MX.sym("x", f.numel_in(0)), ca.MX.sym("theta", f.numel_in(f.n_in() - 1))
    v = ca.MX.sym("v", f.numel_in(1) if f.n_in() == 3 else 0)
    arguments = [x, v, theta] if f.n_in() == 3 else [x, theta]
    value = ca.densify(f(*arguments))
    whole = ca.Function(name, [x, v, theta], [value], ["x", "v", "theta"], [returned])
    try:
        return whole.expand()
    except RuntimeError:  # a function that CasADi calls, and does not write out: an interpolant, another's code
        return whole


def _check_columns(name: str, f: ca.Function) -> None:
    shapes_in, shapes_out = [f.size_in(i) for i in range(f.n_in())], [f.size_out(i) for i in range(f.n_out())]
    fits = len(shapes_in) in (2, 3) and len(shapes_out) == 1
    fits = fits and all(columns == 1 for _, columns in shapes_in + shapes_out)
    if not fits or 0 in (shapes_in[0][0], shapes_in[-1][0], shapes_out[0][0]):
        raise ValueError(
            f"{name} must map columns (x, v, theta), or (x, theta) without inputs, to one column, received "
            f"{shapes_in} -> {shapes_out}"
        )


def runge_kutta(ode: ca.Function, sampling_time: float, steps: int) -> ca.Function:
    """x(t + h) of dx/dt = ode(x, v, theta), v held for the sampling time h: classical Runge-Kutta of order four.

    E. Hairer, S. P. Norsett, G. Wanner, Solving Ordinary Differential Equations I, section II.1.
    """
    f = _three_arguments("ode", ode, "dx")
    if f.numel_out(0) != f.numel_in(0):
        raise ValueError(
            f"ode must return the derivative of x, received {f.numel_in(0)} states and {f.numel_out(0)} numbers "
            "returned"
        )
    symbol = ca.SX.sym if f.is_a("SXFunction") else ca.MX.sym
    x, v, theta = symbol("x", f.numel_in(0)), symbol("v", f.numel_in(1)), symbol("theta", f.numel_in(2))
    h, end = sampling_time / steps, x
    for _ in range(steps):
        k1 = f(end, v, theta)
        k2 = f(end + h / 2 * k1, v, theta)
        k3 = f(end + h / 2 * k2, v, theta)
        k4 = f(end + h * k3, v, theta)
        end = end + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return ca.Function("dynamics", [x, v, theta], [end], ["x", "v", "theta"], ["x_next"])
