"""From a measured record to a controller: model predictive control of two tanks with an identified model.

    python scripts/mpc_tanks.py [--quick] [--seed N] [--steps N] [--figure FILE]

1. A record of the tanks: the voltage of the pump, and the level of the lower tank with 1 % of noise.
2. A state-space model of two states and six tanh units, identified from it, and its fit on a second record.
3. Its step as a CasADi function (:func:`ocp_nn.export.step_function`) is the prediction model of a controller written
   with CasADi's ``Opti``: multiple shooting over 20 samples, the voltage within its bounds, changes of it weighted.
4. An observer (:class:`ocp_nn.Observer`) tells the controller the state, from the noisy level alone, and what the model
   does not know (an offset of the level) is added to its predictions.
5. The loop is closed on the simulated tanks, whose equations the controller does not know.

Printed are the fit, the tracking error against that of the open loop, the largest violation of a bound, and the
milliseconds of a decision.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is there
import casadi as ca
import numpy as np

import ocp_nn
from ocp_nn.export import step_function
from ocp_nn.learning.data.synthetic_records import runge_kutta, tanks

LOWEST, HIGHEST = 0.0, 5.0  # volts
SAMPLING_TIME, BRIM, NOISE = 4.0, 10.0, 0.02
HORIZON, CHANGE = 20, 0.05


@dataclass(frozen=True, eq=False)
class Loop:
    """What happened: the reference, the true and the measured level, and the voltage, all over time."""

    reference: np.ndarray
    level: np.ndarray
    measured: np.ndarray
    voltage: np.ndarray
    seconds: np.ndarray

    @property
    def error(self) -> float:
        """RMS deviation of the level from the reference."""
        return float(np.sqrt(np.mean((self.level - self.reference) ** 2)))

    @property
    def violation(self) -> float:
        """Volts beyond the bounds."""
        return float(max(np.max(self.voltage - HIGHEST), np.max(LOWEST - self.voltage), 0.0))


def identified(seed: int, samples: int) -> tuple[ocp_nn.StateSpaceRegressor, float]:
    """A model of a record, and its fit in per cent on another one."""
    data = ocp_nn.load_records("tanks", seed=seed, samples=samples, noise=0.01)
    model = ocp_nn.StateSpaceRegressor(2, (6,), weight_decay=0.03, random_state=seed, num_starts=2)
    (v, y), (v_test, y_test) = data.train.pairs[0], data.test.pairs[0]
    model.fit(v, y)
    return model, float(model.model_.fit_percent(v_test, y_test, warm_up=50)[0])


def controller(step: ca.Function) -> Callable[[np.ndarray, float, np.ndarray, float], float]:
    """(state, offset, references, last voltage) -> the next voltage."""
    opti = ca.Opti()
    x, u = opti.variable(step.numel_in(0), HORIZON + 1), opti.variable(1, HORIZON)
    start, offset, wanted, last = (
        opti.parameter(step.numel_in(0)),
        opti.parameter(),
        opti.parameter(HORIZON),
        opti.parameter(),
    )
    cost = 0
    for k in range(HORIZON):
        after, _ = step(x[:, k], u[k])
        opti.subject_to(x[:, k + 1] == after)
        _, level = step(x[:, k + 1], u[k])
        cost += (level + offset - wanted[k]) ** 2 + CHANGE * (u[k] - (u[k - 1] if k else last)) ** 2
    opti.subject_to(x[:, 0] == start)
    opti.subject_to(opti.bounded(LOWEST, u, HIGHEST))
    opti.minimize(cost)
    opti.solver("ipopt", {"print_time": False, "ipopt": {"print_level": 0, "sb": "yes"}})

    def decide(state: np.ndarray, shift: float, references: np.ndarray, before: float) -> float:
        for parameter, value in ((start, state), (offset, shift), (wanted, references), (last, before)):
            opti.set_value(parameter, value)
        opti.set_initial(x, np.tile(np.reshape(state, (-1, 1)), HORIZON + 1))
        opti.set_initial(u, before)
        # IPOPT keeps bounds to 1e-8
        return float(np.clip(opti.solve().value(u)[0], LOWEST, HIGHEST))

    return decide


def reference(steps: int) -> np.ndarray:
    """Levels to be reached, one after the other, and held."""
    levels = np.array([5.0, 7.5, 4.0, 6.0, 8.5, 5.5])
    return np.repeat(levels, -(-steps // len(levels)))[: steps + HORIZON + 1]


def closed_loop(model: ocp_nn.StateSpaceRegressor, steps: int, seed: int) -> Loop:
    """The controller at work on the tanks."""
    fitted, rng = model.model_, np.random.default_rng([7, seed])
    decide = controller(step_function(fitted.system, fitted.theta))
    observer = ocp_nn.Observer(
        fitted.system, fitted.theta, process_noise=0.05, measurement_noise=NOISE, x0=fitted.mean_initial_state
    )
    wanted = np.pad(reference(steps), (0, HORIZON + 1), mode="edge")
    plant, voltage, shift, rows = np.array([5.0, 5.0]), 2.5, 0.0, []
    for t in range(steps):
        measured = plant[1] + NOISE * rng.standard_normal()
        predicted = fitted.system.values(fitted.theta, observer.state[None], np.array([[voltage]]))[1][0, 0]
        shift += 0.1 * (measured - predicted - shift)
        state = observer.update([measured - shift])
        began = time.perf_counter()
        voltage = decide(state, shift, wanted[t + 1 : t + 1 + HORIZON], voltage)
        rows.append((wanted[t], plant[1], measured, voltage, time.perf_counter() - began))
        observer.predict([voltage])
        plant = np.clip(runge_kutta(lambda x, u=voltage: tanks(x, u), plant, SAMPLING_TIME), 0.0, BRIM)
    return Loop(*np.array(rows).T)


def open_loop(steps: int) -> float:
    """RMS deviation where the voltage stays in the middle."""
    plant, levels = np.array([5.0, 5.0]), []
    for _ in range(steps):
        levels.append(plant[1])
        plant = np.clip(runge_kutta(lambda x: tanks(x, 2.5), plant, SAMPLING_TIME), 0.0, BRIM)
    return float(np.sqrt(np.mean((np.array(levels) - reference(steps)[:steps]) ** 2)))


def draw(loop: Loop, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    hours = np.arange(len(loop.level)) * SAMPLING_TIME / 60
    above.plot(hours, loop.reference, "k--", label="reference", linewidth=1)
    above.plot(hours, loop.measured, ".", color="0.7", markersize=3, label="measured")
    above.plot(hours, loop.level, color="C0", label="level of the lower tank")
    above.legend(ncols=3, fontsize=8)
    above.set_ylabel("level")
    below.step(hours, loop.voltage, color="C3", where="post")
    for bound in (LOWEST, HIGHEST):
        below.axhline(bound, color="0.5", linewidth=0.8)
    below.set(xlabel="minutes", ylabel="pump (V)")
    figure.savefig(path, dpi=130)


def main(argv: Sequence[str] | None = None) -> Loop:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a short record and a short loop")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--figure", type=Path)
    args = parser.parse_args(argv)
    steps = min(args.steps, 120) if args.quick else args.steps
    model, fit = identified(args.seed, 300 if args.quick else 1000)
    print(f"fit on a second record: {fit:.1f} %")
    loop = closed_loop(model, steps, args.seed)
    print(f"tracking: RMS {loop.error:.3f}, with a constant voltage {open_loop(steps):.3f}")
    print(f"largest violation of a bound: {loop.violation:.1e} V")
    print(f"a decision takes {1e3 * np.median(loop.seconds):.0f} ms")
    if args.figure:
        draw(loop, args.figure)
    return loop


if __name__ == "__main__":
    main()
    sys.exit(0)
