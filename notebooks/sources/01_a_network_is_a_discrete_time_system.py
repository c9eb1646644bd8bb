# %% [markdown]
# # 1. A network is a discrete-time system
#
# **Question.** What is a neural network to a control engineer, and what is back-propagation?
#
# A feed-forward network is a system with a state and a control. Stage $k$ maps the activations $x_k$ (the state) with
# the weights $u_k = (W_k, b_k)$ (the control) to the next activations. The same control acts on all $N$ samples:
#
# $$\min_u\; J = \tfrac12\sum_i \lVert f_{K-1}(x_{K-1}^i, u_{K-1}) - y^i\rVert^2 + \tfrac\rho2 \sum_k \lVert u_k\rVert^2
# \quad\text{s.t.}\quad x_{k+1}^i = f_k(x_k^i, u_k),\; x_0^i \text{ given.}$$
#
# By the end you will have recovered back-propagation from Pontryagin's adjoint recursion, and checked it three ways.

# %%
import casadi as ca
import matplotlib.pyplot as plt
import numpy as np

import ocp_nn
from ocp_nn.report import BLACK, BLUE, GREY, RED

plt.rcParams.update({"font.size": 13, "axes.grid": True, "grid.alpha": 0.3, "figure.constrained_layout.use": True})

# %% [markdown]
# ## Stages are CasADi functions
#
# A stage is an ordinary CasADi function $f(x, u)$ of one sample. We write a tanh layer by hand. The control is $u =
# \mathrm{vec}([W\; b])$, columns stacked.


# %%
def layer(num_inputs, num_outputs, phi):
    x, u = ca.SX.sym("x", num_inputs), ca.SX.sym("u", (num_inputs + 1) * num_outputs)
    weights = ca.reshape(u, num_outputs, num_inputs + 1)
    return ca.Function("f", [x, u], [phi(weights[:, :-1] @ x + weights[:, -1])], ["x", "u"], ["x_next"])


by_hand = ocp_nn.Network([layer(1, 4, ca.tanh), layer(4, 4, ca.tanh), layer(4, 1, lambda a: a)])
network = ocp_nn.Network.mlp([1, 4, 4, 1], activation="tanh")  # the same, written for speed
print("stage 1:", by_hand.stages[1])

data = ocp_nn.load_dataset("sin2x")
order = np.argsort(data.x[:, 0])
x, y = data.x[order], data.y[order]
u = network.init_controls(seed=3)
difference = np.abs(by_hand.predict(u, x) - network.predict(u, x)).max()
print(f"{x.shape[0]} samples, {network.num_controls} weights; the two networks differ by {difference:.1e}")
assert difference < 1e-14

# %% [markdown]
# ## The rollout: features flow through the stages
#
# `rollout` simulates the system from $x_0$ = the inputs. Each panel is one state $x_k$, every line one of its units as
# a function of the input. Training bends these curves until the last stage can combine them into $y$.

# %%
problem = ocp_nn.TrainingProblem(network, x, y, weight_decay=1e-2)
rollout = problem.rollout(u)
result = ocp_nn.solve(problem, u)
fig, axes = plt.subplots(2, 3, figsize=(11, 5.6), sharex=True, sharey="col")
for row, trajectory, name in ((0, rollout, "random weights"), (1, result.trajectory, "trained")):
    output = network.predict(trajectory.controls, x)
    for k, ax in enumerate(axes[row, :2], start=1):
        for unit, style in zip(trajectory.states[k].T, ("-", "--", "-.", ":"), strict=True):
            ax.plot(x, unit, style, color=BLUE, linewidth=2)
        ax.set_title(f"state $x_{k}$, {name}")
    axes[row, 2].plot(x, y, ".", color=GREY, label="data y")
    axes[row, 2].plot(x, output, color=RED, linewidth=2, label="$f_2(x_2, u_2)$")
    axes[row, 2].set_title(f"output, {name}")
    axes[row, 0].set_ylabel("activation")
fig.legend(*axes[1, 2].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
for ax in axes[1]:
    ax.set_xlabel("input $x_0$")
plt.show()
print(result.status.value, f"J = {problem.objective(rollout):.2f} -> {result.objective:.4f}")
assert result.success and result.objective < 1.5

# %% [markdown]
# ## Costates: Pontryagin's recursion is back-propagation
#
# The Lagrangian with multipliers $\lambda_{k+1}$ of $d_k = f_k(x_k,u_k) - x_{k+1}$ is $L = J + \sum_k
# \langle\lambda_{k+1}, d_k\rangle$. Setting its derivative in $x_k$ to zero gives, with $A_k = \partial f_k/\partial x$
# and $B_k = \partial f_k/\partial u$,
#
# $$\lambda_K = f_{K-1} - y,\qquad \lambda_k = A_k^\top\lambda_{k+1},\qquad
# \nabla_{u_k} J = \sum_i B_k^{i\top}\lambda_{k+1}^i + \rho u_k .$$
#
# That is all of back-propagation. Here it is, with $A_k$ of shape $(N, n_{k+1}, n_k)$ and $B_k$ of shape $(N, n_{k+1},
# P_k)$ written out.

# %%
stages = problem.linearize(rollout)
costate = network.predict(u, x) - y  # lambda_K, the residual
gradient = [None] * network.num_stages
for k in reversed(range(network.num_stages)):
    gradient[k] = np.einsum("iap,ia->p", stages[k].B, costate) + problem.weight_decay * u[k]
    costate = np.einsum("iab,ia->ib", stages[k].A, costate)
gradient = np.concatenate(gradient)

program = ocp_nn.single_shooting(problem).problem  # J as a CasADi expression of all weights: autodiff knows no costates
autodiff = ca.Function("g", [program["x"]], [ca.gradient(program["f"], program["x"])])
flat, direction = np.concatenate(u), np.random.default_rng(0).standard_normal(network.num_controls)


def J(flat):
    return problem.objective(problem.rollout(network.split(flat)))


central = (J(flat + 1e-5 * direction) - J(flat - 1e-5 * direction)) / 2e-5
size = np.abs(gradient).max()
errors = {
    "the library's adjoints": np.abs(np.concatenate(problem.adjoints(rollout).gradient) - gradient).max() / size,
    "CasADi's autodiff": np.abs(np.array(autodiff(flat)).ravel() - gradient).max() / size,
    "central differences": abs(central - gradient @ direction) / abs(central),
}
for name, error in errors.items():
    print(f"recursion against {name:23s} {error:.1e}")
assert max(list(errors.values())[:2]) < 1e-13 and errors["central differences"] < 1e-7

# %% [markdown]
# ## What a costate means, and why depth is hard
#
# $\lambda_k^i$ is the sensitivity of the loss to the activations $x_k^i$: how much would the loss change if somebody
# nudged the state of sample $i$ at layer $k$? In a deep network, $\lambda_0 = A_0^\top\cdots A_{K-1}^\top\lambda_K$ is
# a product of many matrices. A sigmoid has slopes of at most 1/4: with ordinary weights each layer leaves about a
# quarter of the signal, and ten of them a millionth. The weights in front are blind.

# %%
fig, ax = plt.subplots(figsize=(8, 4))
lines = (("tanh", "-", "o", BLUE), ("relu", "-.", "^", BLACK), ("sigmoid", "--", "s", RED))
first = {}
for activation, style, marker, color in lines:
    deep = ocp_nn.Network.mlp([1, *[10] * 19, 1], activation=activation)
    deep_problem = ocp_nn.TrainingProblem(deep, x, y)
    costates = deep_problem.adjoints(deep_problem.rollout(deep.init_controls(seed=0))).costates
    rms = [np.sqrt(np.mean(c**2)) for c in costates]
    ax.semilogy(rms, style, marker=marker, color=color, label=activation)
    first[activation], each = rms[1] / rms[-1], (rms[1] / rms[-1]) ** (1 / 19)
    print(f"{activation:8s} {first[activation]:.1e} of the output's costate arrives at x_1: {each:.2f} a layer")
ax.set(xlabel="layer k", ylabel=r"RMS of the costate $\lambda_k$", title="20 stages, the same standard weights")
ax.set_xticks(range(0, 21, 4))
ax.legend(frameon=False)
plt.show()
assert first["sigmoid"] < 0.3**19 < 1e-4 < first["tanh"]

# %% [markdown]
# ## Exercises
#
# **1.** Let $f_k(x, u) = x + \sigma(Wx + b)$ with the sigmoid $\sigma$ (a residual stage). What is $A_k$, and why does
# the costate not vanish, although it does without the $x$? Check it with `residual=True`.
#
# <details><summary>Solution</summary>
#
# $A_k = I + \mathrm{diag}(\sigma(1-\sigma))W$: near zero weights it is the identity, so the costate is carried through
# unchanged.
#
# ```python
# res = ocp_nn.Network.mlp([1, *[10] * 19, 1], "sigmoid", residual=True)
# p = ocp_nn.TrainingProblem(res, x, y)
# c = p.adjoints(p.rollout(res.init_controls(0))).costates
# sizes = [np.sqrt(np.mean(l**2)) for l in c]
# print([f"{size:.1e}" for size in sizes])   # nearly the same at all hidden layers
# assert 0.5 < sizes[1] / sizes[-2] < 2
# ```
# The other side of the coin: products of matrices $I + \ldots$ can grow with depth, in states and in costates.
# </details>
#
# **2.** Show by experiment that $\lambda_k^i$ is the derivative of the loss with respect to $x_k^i$: change one unit of
# one sample of $x_1$ by $\varepsilon$, roll the *remaining* stages out with `layer.forward`, and compare.
#
# <details><summary>Solution</summary>
#
# ```python
# lam = problem.adjoints(rollout).costates
# def loss_from_1(x1):
#     x2 = network.layers[1].forward(x1, u[1])
#     return 0.5 * np.sum((network.layers[2].forward(x2, u[2]) - y) ** 2)
# e = np.zeros_like(rollout.states[1]); e[7, 2] = 1e-6
# x1 = rollout.states[1]
# print((loss_from_1(x1 + e) - loss_from_1(x1 - e)) / 2e-6, lam[1][7, 2])   # agree as far as differences can
# ```
# </details>
#
# ## What we did not show
#
# Mini-batches (everything here is the full sum over samples), other losses than least squares, and networks whose
# layers share weights: a control here belongs to one stage. Whether the rollout is the best way to *solve* the problem
# is the question of [notebook 2](02_single_and_multiple_shooting.ipynb).
