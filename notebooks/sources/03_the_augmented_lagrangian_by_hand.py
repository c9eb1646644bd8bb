# %% [markdown]
# # 3. The augmented Lagrangian by hand
#
# **Question.** If the states are free to disagree with the dynamics, who closes the gaps, and what is the freedom good
# for?
#
# The augmented Lagrangian adds prices $\lambda$ and a spring $\beta$ to every defect $d_k = f_k(x_k,u_k) - x_{k+1}$:
#
# $$L_\beta(u, x;\lambda) = J + \sum_k \langle\lambda_{k+1}, d_k\rangle + \tfrac{\beta_k}2\lVert d_k\rVert^2
# = \tfrac12\lVert r\rVert^2 + \tfrac\rho2\lVert u\rVert^2
# + \sum_k \tfrac{\beta_k}2\Big\lVert d_k + \tfrac{\lambda_{k+1}}{\beta_k}\Big\rVert^2 - \text{const}.$$
#
# The second form is a sum of squares: each subproblem is nonlinear least squares, made for Gauss-Newton. We train ten
# sigmoid layers of five units, a network whose weights are blind at first (notebook 1).

# %%
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LogNorm

import ocp_nn
from ocp_nn.augmented_lagrangian import init, step, terminate
from ocp_nn.damping import Damping
from ocp_nn.gauss_newton import minimise
from ocp_nn.inner_problem import AugmentedLagrangian
from ocp_nn.report.figures import BLACK, BLUE, GREEN, GREY, ORANGE, RED

plt.rcParams.update({"font.size": 13, "axes.grid": True, "grid.alpha": 0.3, "figure.constrained_layout.use": True})

data = ocp_nn.load_dataset("sin2x")
order = np.argsort(data.x[:, 0])
x, y = data.x[order], data.y[order]
network = ocp_nn.Network.mlp([1, *[5] * 10, 1], activation="sigmoid")
problem = ocp_nn.TrainingProblem(network, x, y, weight_decay=1e-3)
start = network.init_controls(seed=0)

# %% [markdown]
# ## The whole algorithm in ten lines
#
# 1. Minimise $L_\beta$ in $(u, x)$ *approximately*: five Gauss-Newton steps. 2. $\lambda_{k+1} \leftarrow \lambda_{k+1}
# + \beta_k d_k$. 3. Stiffen the spring: $\beta \leftarrow 2\beta$. The trajectory starts at the rollout, with no price.

# %%
rollout = problem.rollout(start)
multipliers = tuple(np.zeros_like(s) for s in rollout.states[1:])
beta = 50.0
point = AugmentedLagrangian(problem, multipliers, (beta,) * 10).at(rollout.controls, rollout.states)
damping = Damping(1e-2)
print(" t    beta   J (free states)   J (rollout)   largest defect")
for t in range(28):
    lagrangian = AugmentedLagrangian(problem, multipliers, (beta,) * 10)
    inner = minimise(lagrangian, lagrangian.again(point), damping, tolerance=lambda first: 0.0, max_steps=5)
    point, damping = inner.point, inner.damping
    multipliers = lagrangian.estimate(point)  # lambda + beta d
    at_rollout = problem.objective(problem.rollout(point.controls))
    if t % 3 == 0:
        print(f"{t:2d} {beta:7.0e} {point.objective:17.4f} {at_rollout:13.4f} {point.max_defect:16.1e}")
    beta *= 2.0
at_mean = 0.5 * np.sum((y - y.mean()) ** 2)
print(f"the constant predictor has J = {at_mean:.1f}")
assert at_rollout < 0.1 * at_mean and abs(at_rollout - point.objective) < 0.05 * at_rollout

# %% [markdown]
# Look at the two columns of $J$. The free trajectory fits the data almost at once, while the *rollout* of the same
# weights is no better than the mean: the states cheat. The springs then pull the states back to the dynamics, and the
# weights have to follow. Look at the last column, too: sigmoid layers shrink a signal by a factor of four or more each,
# so defects of $10^{-3}$ are enough to smuggle the whole signal past the weights. A small defect is no proof of
# training; the rollout is.
#
# ## The same with the solver: `init`, `step`, `terminate`
#
# The library's loop adds a safeguard, one $\beta_k$ for each layer, restarts, and a finish in the weights alone as soon
# as the rollout follows the data. The last two are left out here, and the first penalty is softer than the default. It
# is still a loop over an explicit state that we can stop and look at.

# %%
options = ocp_nn.Options(penalty=50.0, max_restarts=0, second_order=False, max_outer=24)
state = init(problem, start, options)
states = [state]
while terminate(problem, state, options) is None:
    state = step(problem, state, options)
    states.append(state)
last = state.outer
print(f"{last} outer iterations, {state.counts['gauss_newton']} Gauss-Newton steps")

norms = np.array([[np.abs(d).max() for d in s.point.defects] for s in states[1 : last + 1]]).T
fig, ax = plt.subplots(figsize=(10, 4.2))
image = ax.imshow(norms, aspect="auto", norm=LogNorm(1e-7, 0.1), cmap="cividis", extent=(0.5, last + 0.5, 9.5, -0.5))
ax.grid(False)
ax.set(xlabel="outer iteration", ylabel="layer $k$", yticks=range(0, 10, 3), xticks=range(1, last + 1, 3))
fig.colorbar(image, label="largest $|d_k|$")
plt.show()
assert norms[:, 0].max() > 1e-2 and norms[:, -1].max() < 1e-4

# %% [markdown]
# ## Watch a trajectory becoming feasible
#
# The output of the last layer over $x$: from the free states (what the optimiser sees) and from the rollout (what the
# network does).

# %%
shown = sorted({1, last // 3, last})
fig, axes = plt.subplots(1, len(shown), figsize=(12, 3.8), sharey=True)
for ax, t in zip(axes, shown, strict=True):
    ax.plot(x, y, ".", color=GREY, markersize=4, label="data")
    ax.plot(x, states[t].point.outputs[-1], color=BLUE, linewidth=2, label="free states")
    ax.plot(x, network.predict(states[t].point.controls, x), "--", color=RED, linewidth=2.5, label="rollout")
    ax.set(title=f"outer iteration {t}", xlabel="input $x_0$")
axes[0].set_ylabel("output")
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
plt.show()

# %% [markdown]
# ## Inexact or exact?
#
# Why only five steps? A subproblem with wrong prices is not worth solving well. The same solver, asked to reduce the
# gradient of each subproblem by a factor of a thousand first:

# %%
plain = replace(options, max_outer=2000, max_steps=400)
exact = replace(plain, inner_accuracy="relative", inner_tolerance=1e-3, max_inner=200)
settings = {"inexact: 5 steps": plain, "exact: gradient x 0.001": exact}
fig, ax = plt.subplots(figsize=(8, 4.2))
needed = {}
for (name, chosen), color, style in zip(settings.items(), (BLUE, RED), ("-o", "--s"), strict=True):
    history = ocp_nn.solve(problem, start, options=chosen).history
    steps, best = [r.steps for r in history], np.minimum.accumulate([r.rollout_objective for r in history])
    ax.loglog(steps, best, style, color=color, label=name)
    needed[name] = next((s for s, value in zip(steps, best, strict=True) if value < 1.0), np.inf)
ax.set(xlabel="least-squares problems solved", ylabel="best rollout objective", title="sigmoid 10x5")
ax.legend(frameon=False)
plt.show()
print("least-squares problems until the rollout has J < 1:", needed)
assert needed["inexact: 5 steps"] < needed["exact: gradient x 0.001"]

# %% [markdown]
# ## What the penalty does
#
# $\beta$ is the price of cheating. Large from the start, the states cannot leave the rollout: the method *is* single
# shooting, and stays where back-propagation stays. The default, $10^4$ times the mean of $y^2$, is at the border: stiff
# networks and shallow ones train faster with it. Where it ends in a trap the solver starts over with a tenth of it.

# %%
fig, ax = plt.subplots(figsize=(8, 4.2))
final = {}
styles = (("auto", BLACK, "-"), (1.0, BLUE, "--"), (100.0, GREEN, "-."), (1e4, ORANGE, "-"), (1e6, RED, (0, (6, 2))))
for penalty, color, style in styles:
    result = ocp_nn.solve(problem, start, options=replace(plain, max_steps=250, penalty=penalty))
    best = np.minimum.accumulate([r.rollout_objective for r in result.history])
    name = "auto" if penalty == "auto" else f"{penalty:.0e}"
    steps, width = [r.steps for r in result.history], 5 if penalty == 1e4 else 2
    ax.loglog(steps, best, linestyle=style, color=color, linewidth=width, label=name)
    final[name] = result.rollout_objective
ax.set(xlabel="least-squares problems solved", ylabel="best rollout objective")
ax.legend(title=r"first $\beta$", frameon=False)
plt.show()
print({name: round(value, 3) for name, value in final.items()})
assert final["1e+02"] < 0.1 * at_mean and final["1e+06"] > 0.8 * at_mean

# %% [markdown]
# ## Exercises
#
# **1.** Without the multiplier update (a pure penalty method) the defects close only because $\beta$ grows. Change the
# loop above so that $\lambda$ stays zero. How large are the defects at the same $\beta$?
#
# <details><summary>Solution</summary>
#
# At a minimum of the penalty function $\beta d \approx \lambda^*$, so $d \approx \lambda^*/\beta$: halved with each
# doubling. With the update the error of $\lambda$ is divided too, and $d$ falls much faster.
#
# ```python
# zero = tuple(np.zeros_like(s) for s in rollout.states[1:])
# p, b, mu = AugmentedLagrangian(problem, zero, (50.0,) * 10).at(rollout.controls, rollout.states), 50.0, Damping(1e-2)
# for t in range(28):
#     lag = AugmentedLagrangian(problem, zero, (b,) * 10)
#     inner = minimise(lag, lag.again(p), mu, tolerance=lambda first: 0.0, max_steps=5)
#     p, mu, b = inner.point, inner.damping, 2 * b
# print(f"penalty alone: {p.max_defect:.1e}, with multipliers: {point.max_defect:.1e}")
# ```
# </details>
#
# **2.** Compare the multipliers of the loop with the back-propagated adjoints of its last rollout. How close are they,
# and why not closer?
#
# <details><summary>Solution</summary>
#
# ```python
# adjoints = problem.adjoints(problem.rollout(point.controls)).costates[1:-1]
# for k, (m, a) in enumerate(zip(multipliers, adjoints), start=1):
#     print(k, f"{np.abs(m - a).max():.1e} of {np.abs(a).max():.1e}")
# ```
# They agree as far as the defects are closed and $L_\beta$ is stationary in the states: neither holds exactly after
# five steps. The library's finish eliminates the states and returns the adjoints themselves.
# </details>
#
# ## What we did not show
#
# How one Gauss-Newton step is computed in 100 x 50 states plus the weights without a large matrix ([notebook
# 4](04_gauss_newton_by_forward_dp.ipynb)); convergence theory (Bertsekas 1982; Birgin and Martinez 2014); and that all
# of this is one network and one seed ([notebook 7](07_training_what_backpropagation_leaves_at_the_mean.ipynb) compares
# methods).
