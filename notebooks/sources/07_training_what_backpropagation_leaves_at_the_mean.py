# %% [markdown]
# # 7. Training what back-propagation leaves at the mean
#
# **Question.** Deep narrow sigmoid networks are said to be untrainable. Is that a property of the network, of the
# formulation, of the optimiser, or of the starting point?
#
# To find out, the methods get *the same problem and the same start*: Adam and L-BFGS on the back-propagated gradient,
# Levenberg-Marquardt in single shooting, and the augmented Lagrangian in multiple shooting. The data: 100 samples of
# $\sin 2x$ plus noise; a constant has a mean squared error of about 0.55.

# %%
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
from scipy.optimize import minimize

import ocp_nn
from ocp_nn import initialise
from ocp_nn.report import BLUE, GREEN, GREY, ORANGE, RED

plt.rcParams.update({"font.size": 13, "axes.grid": True, "grid.alpha": 0.3, "figure.constrained_layout.use": True})

data = ocp_nn.load_dataset("sin2x")
grid = np.linspace(-3, 3, 200)[:, None]


def training(activation, depth, width):
    return ocp_nn.TrainingProblem(ocp_nn.Network.mlp([1, *[width] * depth, 1], activation), data.x, data.y, 1e-3)


def backpropagation(problem, log):
    def value_and_gradient(flat):
        trajectory = problem.rollout(problem.network.split(flat))
        log.append(problem.objective(trajectory))
        return log[-1], np.concatenate(problem.adjoints(trajectory).gradient)

    return value_and_gradient


# %% [markdown]
# ## Four methods
#
# Each returns the weights and the best objective of a rollout against its evaluations (Adam, L-BFGS) or least-squares
# steps (the other two). `backpropagation` is $J$ and its gradient, by rollout and adjoints, with a log. Trained means
# $J<2$ for our purpose, and all stop there. The augmented Lagrangian has no restarts here and a soft first
# penalty (notebook 3); single shooting has none. L-BFGS gets 1000 evaluations, Adam 1000 with each of two rates, of
# which the better one counts.


# %%
TRAINED = 2.0


def trained(record):
    return record.rollout_objective < TRAINED


def gauss_newton(problem, start, shooting="multiple"):
    chosen = ocp_nn.Options(shooting=shooting, penalty=50.0, max_restarts=0, second_order=False, max_steps=400)
    result = ocp_nn.solve(problem, start, options=chosen, callback=trained)
    return result.trajectory.controls, [(r.steps, r.rollout_objective) for r in result.history]


def lbfgs(problem, start):
    log, limits = [], {"maxiter": 1000, "maxfun": 1000, "ftol": 0.0, "gtol": 1e-9}
    f, x0 = backpropagation(problem, log), np.concatenate(start)

    def stop(intermediate_result):
        if intermediate_result.fun < TRAINED:
            raise StopIteration

    flat = minimize(f, x0, jac=True, method="L-BFGS-B", options=limits, callback=stop).x
    return problem.network.split(flat), list(enumerate(log, start=1))


def adam(problem, start, rates=(1e-2, 1e-3)):
    runs = []
    for rate in rates:
        log, flat, mean, square, t = [np.inf], np.concatenate(start), 0.0, 0.0, 0
        f = backpropagation(problem, log)
        while log[-1] >= TRAINED and (t := t + 1) <= 1000:
            gradient = f(flat)[1]
            mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
            flat = flat - rate * mean / (1 - 0.9**t) / (np.sqrt(square / (1 - 0.999**t)) + 1e-8)
        runs.append((problem.network.split(flat), list(enumerate(log))[1:]))
    return min(runs, key=lambda run: run[1][-1][1])


methods = {"augmented Lagrangian": gauss_newton, "single-shooting LM": partial(gauss_newton, shooting="single")}
methods |= {"L-BFGS": lbfgs, "Adam": adam}
styles = dict(zip(methods, ((RED, "-"), (BLUE, "--"), (GREEN, "-."), (ORANGE, ":")), strict=True))

# %% [markdown]
# ## Ten sigmoid layers of five units, standard weights
#
# $W\sim N(0,1)/\sqrt{n}$, $b=0$: the start that back-propagation cannot see through.

# %%
ten, mse = training("sigmoid", 10, 5), {}
start = ten.network.init_controls(seed=0)
fig, (left, right) = plt.subplots(1, 2, figsize=(12, 4.6))
left.plot(data.x, data.y, ".", color=GREY, markersize=4, label="data")
for name, method in methods.items():
    (controls, curve), (color, style) = method(ten, start), styles[name]
    steps, values = np.array(curve).T
    left.plot(grid, ten.network.predict(controls, grid), style, color=color, linewidth=2.5)
    right.loglog(steps, np.minimum.accumulate(values), style, color=color, linewidth=2.5, label=name)
    mse[name] = np.mean((ten.network.predict(controls, data.x) - data.y) ** 2)
    print(f"{name:22s} MSE {mse[name]:.4f} after {int(steps[-1])} steps or evaluations")
left.set(xlabel="input $x_0$", ylabel="output", title="what the network has learnt")
right.set(xlabel="steps or evaluations", ylabel="best rollout objective", title="how it got there")
fig.legend(loc="outside lower center", ncols=5, frameon=False)
plt.show()
assert mse["augmented Lagrangian"] < 0.04 and min(mse[m] for m in list(mse)[1:]) > 0.5

# %% [markdown]
# So it is not the network: good weights exist, and one method finds them from this start. Three seeds more:

# %%
for seed in (1, 2, 3):
    curves = [method(ten, ten.network.init_controls(seed))[1] for method in list(methods.values())[:3]]
    lowest = [round(min(value for _, value in curve), 2) for curve in curves]
    print(f"seed {seed}:", dict(zip(methods, lowest, strict=False)))
    assert lowest[0] < TRAINED < 20 < min(lowest[1:])

# %% [markdown]
# ## Deeper: the start decides
#
# With 40 sigmoid layers even the augmented Lagrangian stays at the mean from standard weights. But multiple shooting
# suggests another start: guess the **states**. `initialise(..., "states")` lets every hidden layer carry features of
# $x$, and fits each layer's weights to that by ridge regression. (The solver's default uses it by itself where standard
# weights let nothing of the signal through.)

# %%
forty, order = training("sigmoid", 40, 5), np.argsort(data.x[:, 0])
fig, axes = plt.subplots(2, 3, figsize=(11, 5.2), sharex=True, sharey=True)
for row, init in enumerate(("standard", "states")):
    states = forty.rollout(initialise(forty, init)).states
    for ax, k in zip(axes[row], (1, 5, 40), strict=True):
        ax.plot(data.x[order], states[k][order], color=BLUE, linewidth=1.8)
        ax.set_title(f"$x_{{{k}}}$, {init}")
    axes[row, 0].set_ylabel("activation")
fig.supxlabel("input $x_0$")
plt.show()

# %% [markdown]
# From the same better start, *every* method may profit. Fair comparison: all methods, both starts, three networks
# (objective of the rollout; trained is below 2; the constant has 27.5).

# %%
print(f"{'':14s}{'start':10s}" + "".join(f"{name:>22s}" for name in methods))
table = {}
for activation, depth, width in (("sigmoid", 10, 5), ("sigmoid", 40, 5), ("relu", 20, 8)):
    problem = training(activation, depth, width)
    for init in ("standard", "states"):
        curves = [method(problem, initialise(problem, init))[1] for method in methods.values()]
        table[activation, depth, init] = row = [min(value for _, value in curve) for curve in curves]
        print(f"{activation:8s}{depth}x{width}  {init:10s}" + "".join(f"{value:22.2f}" for value in row))
assert max(table["sigmoid", 10, "states"]) < 5 and min(table["sigmoid", 40, "standard"]) > 20
assert table["sigmoid", 40, "states"][0] < TRAINED

# %% [markdown]
# Read it honestly. The state-trajectory start helps everybody: from it, single shooting trains 40 sigmoid layers, too.
# The augmented Lagrangian is not always the best column. What it adds is the escape from a start that is blind, as long
# as the network is not too deep. And the default solver combines both:

# %%
result = ocp_nn.solve(forty, callback=trained)
error = np.mean((result.predict(data.x) - data.y) ** 2)
print(f"40 sigmoid layers, default: MSE {error:.4f} after {result.history[-1].steps} steps")
assert error < 0.04

# %% [markdown]
# ## Restarts: what helps on ReLU is not the formulation
#
# From standard weights, twenty ReLU layers hold all methods. Our solver then *restarts from perturbed weights*. Any
# method could do that, so we let single shooting do it as well:

# %%
relu, reached = training("relu", 20, 8), {"multiple": 0, "single": 0}
for seed in range(3):
    for shooting in reached:
        options = ocp_nn.Options(shooting=shooting, seed=seed, max_restarts=10, max_outer=150)
        result = ocp_nn.solve(relu, relu.network.init_controls(seed), options=options, callback=trained)
        reached[shooting] += int(result.rollout_objective < TRAINED)
        print(f"seed {seed} {shooting:8s} {result.counts['restarts']:2d} restarts: J = {result.rollout_objective:.2f}")
assert min(reached.values()) >= 1

# %% [markdown]
# Perturbed weights free these networks in either formulation, after about as many restarts. Restarts are a
# remedy that any method can borrow, and no argument for multiple shooting.
#
# ## Exercises
#
# **1.** The standard start is blind because sigmoids near zero have slope 1/4. Scale the hidden weights up by four and
# choose the biases such that a state of 1/2 gives a pre-activation of zero. Does single-shooting LM escape now?
#
# <details><summary>Solution</summary>
#
# $b = -\tfrac12 W\mathbf 1$ for the stages whose input is a sigmoid state.
#
# ```python
# for seed in range(4):
#     controls = []
#     for layer, v in zip(ten.network.layers, ten.network.init_controls(seed)):
#         table_ = v.reshape(layer.num_inputs + 1, layer.num_outputs).copy()
#         if controls and layer is not ten.network.layers[-1]:
#             table_[:-1] *= 4.0
#             table_[-1] = -0.5 * table_[:-1].sum(axis=0)
#         controls.append(table_.ravel())
#     _, curve = gauss_newton(ten, tuple(controls), "single")
#     print(seed, round(min(v for _, v in curve), 2))
# ```
# For some seeds, yes: it is partly an initialisation trap, and notebook 1's costate plot shows why.
# </details>
#
# **2.** Does a deep sigmoid network pay on real data? Train one and ten hidden sigmoid layers of five units on 300 of
# the diabetes patients (standardised, $\rho = 3$), and compare root mean squared errors on the others.
#
# <details><summary>Solution</summary>
#
# ```python
# from ocp_nn import Scaler, random_split
# d = ocp_nn.load_dataset("diabetes")
# part = random_split(442, test_size=142 / 442)
# sx, sy = Scaler.fit(d.x[part.train]), Scaler.fit(d.y[part.train])
# for depth in (1, 10):
#     net = ocp_nn.Network.mlp([10, *[5] * depth, 1], "sigmoid")
#     real = ocp_nn.TrainingProblem(net, sx.transform(d.x[part.train]), sy.transform(d.y[part.train]), 3.0)
#     fit = ocp_nn.solve(real, options=ocp_nn.Options(max_outer=100, max_restarts=3))
#     guess = sy.inverse(fit.predict(sx.transform(d.x[part.test])))
#     print(depth, fit.status.value, f"RMSE {np.sqrt(np.mean((guess - d.y[part.test]) ** 2)):.1f}")
# ```
# On 442 patients with a nearly linear relation, depth does not pay, and with this weight decay the deep network may
# prefer the constant: that one *is* then the best of its kind, not a failure of training.
# </details>
#
# ## What we did not show
#
# Many seeds and more networks with times, and every method at its own best: `scripts/deep_suite.py`. Architectures that
# avoid the problem (skip connections, normalisation), which is what one would use in practice. And mini-batch noise,
# which may help Adam.
