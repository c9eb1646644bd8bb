# %% [markdown]
# # 8. Your own dynamics
#
# **Question.** A stage may be any function $f_k(x, u)$. How is one plugged in, what comes for free, and what can be
# done with constraints on states and weights that training codes cannot express?
#
# A stage is a CasADi function of one sample. From it the library gets batches, $A_k$, $B_k$, curvature, both
# transcriptions, the solver and the certificate. There is nothing to derive and nothing to register.

# %%
import casadi as ca
import matplotlib.pyplot as plt
import numpy as np

import ocp_nn
from ocp_nn.report import BLACK, BLUE, GREY, RED

plt.rcParams.update({"font.size": 13, "axes.grid": True, "grid.alpha": 0.3, "figure.constrained_layout.use": True})

data = ocp_nn.load_dataset("sin2x")
order = np.argsort(data.x[:, 0])
x, y = data.x[order][::3], data.y[order][::3]

# %% [markdown]
# ## A residual block and a neural-ODE stage
#
# The residual block is $x + V\tanh(Wx + b)$. The neural-ODE stage integrates $\dot x = V\tanh(Wx + b)$ over $h$ with
# one step of the classical Runge-Kutta method: for an optimal-control engineer, an ordinary shooting interval with a
# piecewise constant control.


# %%
def vector_field(width, hidden):
    x, u = ca.SX.sym("x", width), ca.SX.sym("u", hidden * (2 * width + 1))
    matrix, b, back = ca.vertsplit(u, [0, hidden * width, hidden * (width + 1), u.numel()])
    W, V = ca.reshape(matrix, hidden, width), ca.reshape(back, width, hidden)
    return ca.Function("rhs", [x, u], [V @ ca.tanh(W @ x + b)])


def residual_block(f, x, u):
    return x + f(x, u)


def rk4(f, x, u, h=1.0):
    k1 = f(x, u)
    k2 = f(x + h / 2 * k1, u)
    k3 = f(x + h / 2 * k2, u)
    k4 = f(x + h * k3, u)
    return x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def stage(step, width=2, hidden=4):
    f = vector_field(width, hidden)
    x, u = ca.SX.sym("x", width), ca.SX.sym("u", f.numel_in(1))
    return ca.Function(step.__name__, [x, u], [step(f, x, u)])


first, last = ocp_nn.Dense(1, 2, "identity"), ocp_nn.Dense(2, 1, "identity")
blocks = {"residual blocks": residual_block, "neural ODE": rk4}
fig, ax = plt.subplots(figsize=(7, 4), subplot_kw={"xlabel": "input $x_0$", "ylabel": "output"})
grid = np.linspace(-3, 3, 200)[:, None]
ax.plot(x, y, "o", color=GREY, markersize=4, label="data")
for (name, block), color, style in zip(blocks.items(), (BLUE, RED), ("-", "--"), strict=True):
    network = ocp_nn.Network([first, *[stage(block)] * 3, last])
    problem = ocp_nn.TrainingProblem(network, x, y, weight_decay=0.02)
    for allowed in (0, 40):
        runs = [ocp_nn.solve(problem, options=ocp_nn.Options(seed=s, max_restarts=allowed)) for s in range(6)]
        print(f"{name:15s} up to {allowed:2d} restarts", *(f"{r.objective:.3f} ({r.counts['restarts']})" for r in runs))
    ax.plot(grid, network.predict(runs[0].trajectory.controls, grid), style, color=color, linewidth=2, label=name)
    assert all(run.success and run.objective < 0.3 and run.certificate.passed(1e-5) for run in runs)
ax.legend(frameon=False, fontsize=11)
plt.show()
result = min(runs, key=lambda run: run.objective)

# %% [markdown]
# $J$ for six seeds, and the restarts taken in brackets; the curves are those of seed 0, the default. Without restarts
# both networks end on seed 0 at $J = 7.348$, *converged*. What is that?

# %%
print(f"linear least squares, without weight decay: J = {problem.line.objective:.3f}")
print(*ocp_nn.solve(problem, options=ocp_nn.Options(max_restarts=0)).notes)

# %% [markdown]
# It is the straight line. A stage near the identity lets signals and costates through, so nothing here stays at the
# mean, but at the linear least-squares fit the residual is orthogonal to the constant and to the inputs. So the linear
# part of a small $V\tanh(Wx + b)$ gains nothing, the rest is of fourth order in $V$ and $W$, and its weight decay costs
# in second order: a line is a local *minimum*, and a solver that ends there has converged, honestly and uselessly.
#
# The solver knows the line. Where it ends no lower although the data bend, it starts over as another seed would, at
# most three times in vain. Where that does not help, or is not allowed, the status stays *converged*, which is true,
# and `result.notes` says the rest. What follows goes on with the best of the six neural ODEs.

# %% [markdown]
# ## What you get for free
#
# Derivatives are CasADi's, checked here against differences. The multipliers are the adjoints, and IPOPT, started at
# our answer, stays there: it knows as little about Runge-Kutta stages as we told it.

# %%
u = network.init_controls(seed=3)
gradient = np.concatenate(problem.adjoints(problem.rollout(u)).gradient)
flat, direction = np.concatenate(u), np.random.default_rng(0).standard_normal(gradient.size)
ahead, behind = (problem.objective(problem.rollout(network.split(flat + e * direction))) for e in (1e-6, -1e-6))
slope = (ahead - behind) / 2e-6
print(f"derivative along a random direction: adjoints {gradient @ direction:.8f}, differences {slope:.8f}")
assert np.isclose(slope, gradient @ direction, rtol=1e-6)
check = ocp_nn.solve_ipopt(ocp_nn.single_shooting(problem), result.trajectory.controls)
print(f"IPOPT from our answer: {check.counts['iterations']} iterations, J = {check.objective:.10f}")
assert check.success and np.isclose(check.objective, result.objective, rtol=1e-6)

# %% [markdown]
# ## Constraints on states: a corridor
#
# States that are variables can be constrained. Let every sample's trajectory stay in a box. A constraint
# $l \leq c(x_k, u) \leq h$ is a CasADi function like a stage; the solver puts it into its augmented Lagrangian as one
# more term, and IPOPT gets the same rows. The picture is the phase plane of the neural ODE: each line is one sample
# under the same control $u_1, u_2, u_3$, from the circle ($x_1$) to the dot ($x_4$).

# %%
s, u = ca.SX.sym("s", 2), ca.SX.sym("u", problem.block_lengths[1])
states = ca.Function("states", [s, u], [s])


def within(box):
    corridor = ocp_nn.OutputConstraint(states, -box, box, stages=[1, 2, 3, 4], block=1, name="corridor")
    return ocp_nn.ConstrainedProblem(problem, [corridor])


box = 0.6 * (widest := max(np.abs(states).max() for states in result.trajectory.states[1:]))
inside = ocp_nn.solve(within(box), result.trajectory)
fig, axes = plt.subplots(1, 2, figsize=(11, 5), sharex=True, sharey=True)
for ax, run, name in ((axes[0], result, "free"), (axes[1], inside, f"$|x_k| \\leq {box:.2f}$")):
    paths = np.array(run.trajectory.states[1:])  # (time, sample, unit)
    for i in range(0, len(x), 2):
        ax.plot(*paths[:, i].T, color=plt.cm.cividis((x[i, 0] + 3) / 6))
    ax.plot(*paths[0, ::2].T, "o", color=BLACK, markerfacecolor="white")
    ax.plot(*paths[-1, ::2].T, ".", color=BLACK)
    ax.add_patch(plt.Rectangle((-box, -box), 2 * box, 2 * box, fill=False, linestyle="--"))
    ax.set(title=f"{name}: J = {run.objective:.4f}", xlabel="unit 1", aspect="equal", xlim=(-3.6, 3.6))
axes[0].set_ylabel("unit 2")
fig.colorbar(plt.cm.ScalarMappable(plt.Normalize(-3, 3), "cividis"), ax=axes, label="input $x_0$ of the sample")
plt.show()
check = ocp_nn.confirm(within(box), inside.trajectory)
print(f"{inside.status.value}; largest activation {np.abs(paths).max():.6f} in a box of {box:.6f}")
print(f"IPOPT, from this point and these multipliers, changes J by a relative {abs(check.relative_change):.0e}")
assert inside.success and np.abs(paths).max() <= box + 1e-6 and check.confirmed

# %% [markdown]
# The box holds for the *training* samples, at the nodes: what is not in the problem is not guaranteed.
#
# ## Multipliers are prices
#
# What does the corridor cost, and what would a little more room be worth? Let $J^*(h)$ be the least objective in a box
# of half-width $h$. The multiplier $m$ of each constraint is the rate at which $J^*$ falls when that constraint is
# relaxed, so for the whole box
#
# $$\frac{dJ^*}{dh} = -\sum_{k, i, j} |m_k^{ij}| .$$
#
# One solve knows the slope. The solver never saw another box, and yet its multipliers draw the tangents of the curve
# that six solves draw.

# %%
shares = np.array([0.45, 0.5, 0.55, 0.6, 0.65, 0.7])
runs, values, prices = [inside], [], []
for share in shares:
    runs.append(ocp_nn.solve(within(share * widest), runs[-1].trajectory.controls))
    values.append(runs[-1].objective)
    (m,) = runs[-1].trajectory.constraint_multipliers
    prices.append(np.abs(m).sum() * widest)  # of a share of the widest trajectory
fig, ax = plt.subplots(figsize=(7.5, 4.4))
ax.plot(shares, values, "o-", color=GREY)
for share, value, price in zip(shares, values, prices, strict=True):
    reach = np.array([-0.02, 0.02])
    ax.plot(share + reach, value - price * reach, color=RED, linewidth=2.5)
ax.set(xlabel="half-width of the box, in parts of the free trajectories'", ylabel="J, and the multipliers' tangents")
plt.show()
slopes = np.gradient(values, shares)[1:-1]
for share, slope, price in zip(shares[1:-1], slopes, prices[1:-1], strict=True):
    print(f"{share:.2f}: differences {slope:+.4f}, minus the sum of prices {-price:+.4f}")
assert all(run.success for run in runs)
assert np.allclose(slopes, np.negative(prices[1:-1]), rtol=0.25, atol=2e-3)

# %% [markdown]
# Where a sample has no price the box does not touch it: prices say *which* samples ask for room.

# %%
(m,) = inside.trajectory.constraint_multipliers
priced = np.abs(m).sum(axis=(0, 2)) > 1e-6 * np.abs(m).max()
print(f"{priced.sum()} of {len(x)} samples have a price, those at", *(f"{value:+.2f}" for value in x[priced, 0]))

# %% [markdown]
# ## Exercises
#
# **1.** Weights can be bounded, too: a tanh network with non-negative weights is monotone in all inputs. Train one with
# four units in each of two layers on body mass index, blood pressure and serum measurement s5 of the diabetes patients,
# with and without `ControlBounds(lower=0.0, entries=...)` on the weights, the biases being free. At how many of 500
# random points does the prediction fall when the body mass index rises? Which weights have a price?
#
# <details><summary>Solution</summary>
#
# ```python
# patients = ocp_nn.load_dataset("diabetes")
# columns = [patients.feature_names.index(name) for name in ("bmi", "bp", "s5")]
# px, py = (ocp_nn.Scaler.fit(table).transform(table) for table in (patients.x[:, columns], patients.y))
# fit = ocp_nn.TrainingProblem(ocp_nn.Network.mlp([3, 4, 4, 1]), px, py, weight_decay=0.05)
# weights, end = [], 0
# for layer in fit.network.layers:  # u = vec([W b]): the last entries of a block are the biases
#     weights += range(end, end + layer.num_controls - layer.num_outputs)
#     end += layer.num_controls
# bounds = ocp_nn.ControlBounds(lower=0.0, entries=weights)
# probes = np.random.default_rng(0).normal(size=(500, 3))
# for task in (fit, ocp_nn.ConstrainedProblem(fit, [bounds])):
#     run = ocp_nn.solve(task)
#     before, after = (fit.network.predict(run.trajectory.controls, probes + [step, 0, 0]) for step in (0.0, 0.1))
#     print(f"J = {run.objective:.1f}; it falls at {np.mean(after < before - 1e-9):.0%} of the points")
# (m,) = run.trajectory.constraint_multipliers
# flat = np.concatenate(run.trajectory.controls)[weights]
# print(f"{np.sum(flat == 0)} of {len(flat)} weights are zero, exactly; {np.sum(m < -1e-6)} of them have a price")
# ```
# The free network falls at 24 % of the points and the monotone one at none, everywhere and not only at the data: this
# constraint is on the controls. `OCPRegressor(monotonic_cst={"bmi": 1})` does it for single inputs.
# </details>
#
# **2.** Write a stage with a physical parameter: a damped oscillator $\dot q = v,\ \dot v = -u_1 q - u_2 v$ integrated
# by RK4 over 0.5 s, as a network of one stage that maps $(q, v)$ to itself. Identify $u$ from 20 noisy transitions.
#
# <details><summary>Solution</summary>
#
# ```python
# s, p, h = ca.SX.sym("s", 2), ca.SX.sym("p", 2), 0.5
# rhs = ca.Function("oscillator", [s, p], [ca.vertcat(s[1], -p[0] * s[0] - p[1] * s[1])])
# k1 = rhs(s, p)
# k2 = rhs(s + h / 2 * k1, p)
# k3 = rhs(s + h / 2 * k2, p)
# k4 = rhs(s + h * k3, p)
# plant = ocp_nn.Network([ca.Function("rk4", [s, p], [s + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)])])
# truth, noise = [np.array([4.0, 0.6])], np.random.default_rng(0)
# before = noise.normal(size=(20, 2))
# after = plant.predict(truth, before) + 0.01 * noise.normal(size=(20, 2))
# found = ocp_nn.solve(ocp_nn.TrainingProblem(plant, before, after, weight_decay=0.0), [np.array([1.0, 0.0])])
# print(found.status.value, found.trajectory.controls[0])   # close to 4 and 0.6
# ```
# Training a network and identifying a system are the same problem.
# </details>
#
# ## What we did not show
#
# Weights shared between stages: notebook 9. Sparsity (`Lasso`, `GroupLasso`), constraints at points that are no data.
# Stages that are not smooth at bounds or have internal iterations.
