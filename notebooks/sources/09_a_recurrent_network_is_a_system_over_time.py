# %% [markdown]
# # 9. A recurrent network is a system over time
#
# **Question.** Back-propagation through time trains networks with memory. Which formulation of an optimal control
# problem is that, what does a long horizon do to it, and what does multiple shooting do instead?
#
# A recurrent network, a state-space model and a discretised differential equation are one thing,
# $x_{t+1} = f(x_t, v_t; \theta)$, $y_t = g(x_t, v_t; \theta)$: stages that share one control $\theta$, a cost at every
# stage, and an initial state that nobody has measured.

# %%
import matplotlib.pyplot as plt
import numpy as np

import ocp_nn
from ocp_nn import Scaler, conditioning
from ocp_nn.report import BLACK, BLUE, GREEN, GREY, RED

plt.rcParams.update({"font.size": 13, "axes.grid": True, "grid.alpha": 0.3, "figure.constrained_layout.use": True})


def record(name, samples):
    """A simulated record in units of its standard deviations."""
    v, y = ocp_nn.load_records(name, samples=samples, noise=0.02).train.pairs[0]
    return (Scaler.fit(v).transform(v) if v.shape[1] else v), Scaler.fit(y).transform(y)


def identification(name, samples, hidden=8, weight_decay=1e-3, states=2):
    v, y = record(name, samples)
    model = ocp_nn.StateSpaceModel(
        num_states=states, num_inputs=v.shape[1], num_outputs=1, hidden_layer_sizes=(hidden,)
    )
    return ocp_nn.IdentificationProblem(model, [(v, y)], weight_decay)


# %% [markdown]
# ## Back-propagation through time is single shooting
#
# Eliminate the states: simulate from $x_0$, and compare with the record. The gradient of that error comes from the
# adjoint recursion $\lambda_t = A_t^\top\lambda_{t+1} + C_t^\top(\hat y_t - y_t)$, run backward over the record. That
# is all that back-propagation through time is.

# %%
tame = identification("wiener", 100)
theta, x0 = 0.5 * tame.model.initial_parameters(1), np.zeros((1, 2))
gradient = tame.adjoints(tame.rollout([theta], initial=x0)).gradient[0]
direction = np.random.default_rng(0).standard_normal(len(theta))
ahead, behind = (tame.objective(tame.rollout([theta + e * direction], initial=x0)) for e in (1e-6, -1e-6))
print(f"along a random direction: adjoints {gradient @ direction:.7f}, differences {(ahead - behind) / 2e-6:.7f}")
assert np.isclose(gradient @ direction, (ahead - behind) / 2e-6, rtol=1e-5)

# %% [markdown]
# ## What the horizon does to it
#
# An inverted pendulum is recorded while a feedback holds it up: the system itself is unstable. We measure the
# Gauss-Newton matrix of single shooting, and the matrix that forward dynamic programming factorises when states are
# kept behind a penalty $\beta = 1$, where identification of the record has ended.

# %%
horizons, curves = (20, 60, 180), {"single shooting": [], r"states kept, $\beta = 1$": []}
for horizon in horizons:
    problem = identification("pendulum", horizon, hidden=4, weight_decay=1e-2)
    point = ocp_nn.solve(problem, options=ocp_nn.Options(max_outer=100)).trajectory
    nodes = [(), tuple(range(1, horizon))]
    found = conditioning.measure(problem, point, nodes=nodes, penalties=[1.0], matrices=["gauss_newton", "primal"])
    for values, (matrix, shooting) in zip(
        curves.values(), (("gauss_newton", "single"), ("primal", "multiple")), strict=True
    ):
        values += [m.spectrum.condition for m in found if (m.matrix, m.shooting) == (matrix, shooting)]
fig, ax = plt.subplots(figsize=(7, 4), subplot_kw={"xlabel": "horizon $T$", "ylabel": "condition number"})
for (name, values), color in zip(curves.items(), (BLUE, RED), strict=True):
    ax.loglog(horizons, values, "o-", color=color, linewidth=2, label=name)
    print(f"{name:25s}", *(f"{value:.1e}" for value in values))
ax.legend(frameon=False)
plt.show()
assert curves["single shooting"][-1] > 1e3 * curves[r"states kept, $\beta = 1$"][-1]

# %% [markdown]
# ## Where it matters: a chaotic record
#
# One coordinate of Lorenz' system, 300 samples, 2 % noise. Errors of the simulation grow by $e$ every Lyapunov time,
# and there are 13 of them in the record: the landscape of single shooting has as many valleys as you like. Multiple
# shooting begins as a one-step predictor, whose landscape has none, and closes the defects slowly.

# %%
chaos = identification("lorenz", 300, hidden=12, weight_decay=2e-3, states=3)
runs = {
    "multiple shooting": ocp_nn.solve(chaos, options=ocp_nn.Options(time_limit=60)),
    "single shooting": ocp_nn.solve(chaos, options=ocp_nn.Options(shooting="single", max_outer=60, max_restarts=0)),
}
fig, ax = plt.subplots(figsize=(9, 4), subplot_kw={"xlabel": "sample", "ylabel": "output"})
ax.plot(chaos.y[:, 0, 0], ".", color=GREY, label="record")
for (name, run), color in zip(runs.items(), (RED, BLUE), strict=True):
    outputs = np.stack(chaos.term_outputs(run.trajectory.controls, run.trajectory.states))[:, 0, 0]
    ax.plot(outputs, color=color, linewidth=1.2, label=name)
    print(f"{name}: J {run.objective:.4f} of {chaos.null_objective:.0f}, largest defect {run.max_defect:.0e}")
ax.legend(frameon=False, ncols=3, fontsize=11)
plt.show()
assert runs["multiple shooting"].objective < 0.1 < 50 < runs["single shooting"].objective
assert runs["multiple shooting"].max_defect < 1e-6

# %% [markdown]
# ## The multipliers are the adjoints of a smoother
#
# In multiple shooting the states are variables, and each Gauss-Newton step over them is a Kalman smoother that carries
# sensitivities to $\theta$ along: `1/beta` is its process noise, and its adjoints are the multipliers. At the solution
# nothing is left of the noise, and they are what back-propagation through time computes.

# %%
kept = ocp_nn.Options(initialisation="states", tolerance=1e-7)
result = ocp_nn.solve(tame, options=kept)
lifted = tame.lift(result.trajectory.controls, initial=result.trajectory.states[0])
multipliers, adjoints = (np.stack(t.multipliers)[:, 0] for t in (result.trajectory, lifted))
print(f"{result.status.value}; largest difference {np.abs(multipliers - adjoints).max():.1e}")
assert np.abs(multipliers - adjoints).max() < 1e-4
fig, ax = plt.subplots(figsize=(9, 3), subplot_kw={"xlabel": "sample", "ylabel": "costate"})
for j, color in enumerate((BLACK, GREEN)):
    ax.plot(multipliers[:, j], color=color, linewidth=2, label=f"multiplier of state {j + 1}")
    ax.plot(adjoints[:, j], ":", color=RED, linewidth=2, label="back-propagated" if j else None)
ax.legend(frameon=False, ncols=3, fontsize=11)
plt.show()

# %% [markdown]
# ## Exercises
#
# **1.** Nodes need not be everywhere. Train the chaotic record with a node every 5 and every 50 steps
# (`Options(shooting=5)`). Where does it stop working, and how many Lyapunov times (22 samples each) is that?
#
# <details><summary>Solution</summary>
#
# ```python
# for every in (5, 50):
#     run = ocp_nn.solve(chaos, options=ocp_nn.Options(shooting=every, max_outer=150, max_restarts=0, time_limit=20))
#     print(f"a node every {every:2d} steps: J {run.objective:.3f}, largest defect {run.max_defect:.0e}")
# ```
# Between nodes a stretch is single shooting, and may be as long as its errors do not grow by much.
# </details>
#
# **2.** The record of the tame system is enough for its simulation. Is the state that was found *the* state of the
# system? Change its basis, $x \to Tx$, and look at the outputs.
#
# <details><summary>Solution</summary>
#
# ```python
# linear = ocp_nn.StateSpaceModel(num_states=2, num_inputs=1, num_outputs=1, hidden_layer_sizes=())
# A, B, C = np.array([[0.8, 0.2], [-0.3, 0.7]]), np.array([[1.0], [0.5]]), np.array([[1.0, 0.0]])
# T, v = np.array([[2.0, 1.0], [0.0, -3.0]]), np.random.default_rng(0).standard_normal((50, 1))
#
#
# def parameters(A, B, C):
#     columns = [A, B, np.zeros((2, 1)), C, np.zeros((1, 1))]  # A, B, b, C, d, each by columns
#     return np.concatenate([part.ravel(order="F") for part in columns])
#
#
# back = np.linalg.inv(T)
# one, _ = linear.simulate(parameters(A, B, C), v, [0.0, 0.0])
# other, _ = linear.simulate(parameters(T @ A @ back, T @ B, C @ back), v, [0.0, 0.0])
# print(np.abs(one - other).max())
# assert np.abs(one - other).max() < 1e-12
# ```
# Nothing but weight decay tells one basis from the other: this is why exact Hessians over time are nearly singular.
# </details>
#
# ## What we did not show
#
# The choice of order, weight decay and start from the record (`ocp_nn.StateSpaceRegressor`, notebook 10); measured
# benchmarks, peers and horizons up to 3000 (`docs/long_horizon_suite.md`); that a fitted chaotic model need not be
# chaotic when it runs freely.
