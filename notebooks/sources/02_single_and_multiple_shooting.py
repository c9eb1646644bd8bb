# %% [markdown]
# # 2. Single and multiple shooting, side by side
#
# **Question.** The same optimal control problem can be written as two different nonlinear programs. What do they look
# like, how do points travel between them, and where does back-propagation hide in the second one?
#
# - **Single shooting** (sequential): the states are substituted by the rollout. Variables: the controls $u$.
# - **Multiple shooting** (simultaneous): the states $x_1,\dots,x_{K-1}$ are variables too, and the dynamics are
# constraints   $d_k = f_k(x_k,u_k) - x_{k+1} = 0$.
#
# The data are real: 442 diabetes patients, ten measurements, and the progression of the disease a year later.

# %%
import matplotlib.pyplot as plt
import numpy as np

import ocp_nn
from ocp_nn import Scaler
from ocp_nn.report import BLACK, BLUE, ORANGE, RED

plt.rcParams.update({"font.size": 13, "figure.constrained_layout.use": True})

data = ocp_nn.load_dataset("diabetes")
x, y = Scaler.fit(data.x).transform(data.x), Scaler.fit(data.y).transform(data.y)
network = ocp_nn.Network.mlp([10, 3, 3, 1])


def training(num_patients):
    return ocp_nn.TrainingProblem(network, x[:num_patients], y[:num_patients], weight_decay=1.0)


# %% [markdown]
# ## One problem, two programs
#
# With four patients we can look at the whole KKT matrix $\begin{pmatrix}H & J^\top\\ J & 0\end{pmatrix}$. `NLP` is an
# ordinary CasADi program (`nlp.problem`, `nlp.bounds`); any CasADi solver takes it.

# %%
four = training(4)
single, multiple = ocp_nn.single_shooting(four), ocp_nn.multiple_shooting(four)
fig, axes = plt.subplots(1, 2, figsize=(12, 6))
for ax, nlp in zip(axes, (single, multiple), strict=True):
    nlp.spy(ax)
    ax.tick_params(labelsize=10)
    ax.tick_params(axis="x", labelrotation=90)
    ax.set_title(f"{nlp.transcription}: {nlp.num_variables} variables, {nlp.num_constraints} constraints", pad=12)
plt.show()
print(multiple.spy())

# %% [markdown]
# Read the pictures. On the left everything depends on everything: the Hessian is one dense block, because the rollout
# has mixed all layers. On the right there are more variables, but each block knows its neighbours only: the Hessian is
# block-diagonal in the stages (samples couple only through the weights) and each row of constraints touches $x_k$,
# $u_k$ and $x_{k+1}$. *Partial* shooting keeps some of the states only:

# %%
for nodes in ((), (1,), (2,), (1, 2)):
    nlp = ocp_nn.multiple_shooting(four, nodes)
    print(f"{nodes!s:7} {nlp.num_variables:4d} variables {nlp.num_constraints:4d} constraints  {nlp.transcription}")
print("variables have names:", multiple.variable_names[2], multiple.variable_names[34], multiple.constraint_names[-1])
assert single.num_constraints == 0 and multiple.num_variables - single.num_variables == multiple.num_constraints == 24

# %% [markdown]
# ## Solve both with IPOPT
#
# Same problem (60 patients), same starting weights, exact Hessians. Multiple shooting gets the rollout as its first
# guess of the states, so that both start at the same objective.

# %%
problem = training(60)
programs = {"single": ocp_nn.single_shooting(problem), "multiple": ocp_nn.multiple_shooting(problem)}
start = problem.rollout(network.init_controls(seed=2))
solved = {name: ocp_nn.solve_ipopt(nlp, start) for name, nlp in programs.items()}
fig, (left, right) = plt.subplots(1, 2, figsize=(12, 4))
for (name, result), color, style in zip(solved.items(), (BLUE, RED), ("o-", "s--"), strict=True):
    iterations = [r.iteration for r in result.history]
    left.plot(iterations, [r.objective for r in result.history], style, color=color, label=name)
    if name == "multiple":
        defects = [(r.iteration, r.max_defect) for r in result.history if r.max_defect > 0]
        right.semilogy(*zip(*defects, strict=True), style, color=color)
    print(f"{name:9s} {result.status.value}, J = {result.objective:.6f}, {result.counts['iterations']} iterations")
left.set(xlabel="IPOPT iteration", ylabel="objective $J$", title="the same start")
left.legend(frameon=False)
right.set(xlabel="IPOPT iteration", ylabel="largest defect $|d_k|$", title="multiple: defects open, then close")
plt.show()
assert all(result.success and result.max_defect < 1e-7 for result in solved.values())

# %% [markdown]
# Training is not convex: the two may or may not end in the same valley, and neither formulation is *right*. What must
# hold is that a solution of one is a solution of the other. Start each solver at the other's answer:

# %%
across = ocp_nn.solve_ipopt(programs["multiple"], problem.lift(solved["single"].trajectory.controls))
back = ocp_nn.solve_ipopt(programs["single"], solved["multiple"].trajectory.controls)
for name, crossed, origin in (("single -> multiple", across, "single"), ("multiple -> single", back, "multiple")):
    change = abs(crossed.objective - solved[origin].objective) / solved[origin].objective
    print(f"{name}: {crossed.counts['iterations']} iterations, objective changes by {change:.1e}")
    assert change < 1e-8

# %% [markdown]
# ## The multipliers are the back-propagated signal
#
# The best moment of this lecture. In multiple shooting nobody back-propagates: IPOPT solves sparse linear systems and
# finds multipliers $\lambda_{k+1}$ of the constraints. But stationarity in $x_k$ reads $A_k^\top\lambda_{k+1} -
# \lambda_k = 0$, with $\lambda_K$ the residual: at the solution the multipliers *are* the signal that back-propagation
# would have computed.

# %%
trajectory = solved["multiple"].trajectory  # its multipliers are IPOPT's lam_g, in our order
adjoints = problem.adjoints(trajectory).costates
fig, ax = plt.subplots(figsize=(5.6, 5.2))
for k, color, marker in ((1, BLUE, "o"), (2, ORANGE, "s")):
    backpropagated, found = adjoints[k].ravel(), trajectory.multipliers[k].ravel()
    ax.plot(backpropagated, found, marker, markerfacecolor="none", color=color, label=f"$\\lambda_{k}$, 60 x 3 numbers")
    error = np.abs(found - backpropagated).max()
    print(f"lambda_{k}: largest difference {error:.1e} of {np.abs(found).max():.2f}")
    assert error < 1e-9
ax.axline((0, 0), slope=1, color=BLACK, linewidth=1)
ax.set(xlabel="back-propagated adjoint", ylabel="IPOPT's multiplier", aspect="equal", title="lam_g = back-propagation")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# ## Lifting and projecting
#
# `lift` takes weights to a point of the big program: the rollout, with the adjoints as multipliers. `project` takes any
# point back: it keeps the weights and closes the defects. At a lifted point the gradient of the big Lagrangian is
# exactly zero in the states, and in the controls it is the ordinary gradient: nothing but back-propagation again.

# %%
lifted = problem.lift(network.init_controls(seed=5))
nodes = programs["multiple"]
gradient = np.abs(np.concatenate(problem.adjoints(lifted).gradient)).max()
print(f"lifted: largest entry of the Lagrangian's gradient {nodes.stationarity(lifted):.6f}, of dJ/du {gradient:.6f}")
rng = np.random.default_rng(0)
guess = tuple(s if k == 0 else s + 0.3 * rng.standard_normal(s.shape) for k, s in enumerate(lifted.states))
infeasible = ocp_nn.Trajectory(lifted.controls, guess, lifted.multipliers)
closed = ocp_nn.project(problem, infeasible)
for name, point in (("guessed states", infeasible), ("projected", closed)):
    defect = max(np.abs(d).max() for d in problem.defects(point))
    print(f"{name:15s} J = {problem.objective(point):8.4f}, largest defect {defect:.2f}")
assert abs(nodes.stationarity(lifted) - gradient) < 1e-12 * gradient
assert problem.objective(closed) == problem.objective(lifted)

# %% [markdown]
# The objective at guessed states says nothing yet: a low $J$ with open defects is not a trained network.
#
# ## Exercises
#
# **1.** Many texts write the constraint as $x_{k+1} - f_k(x_k,u_k) = 0$. What happens to the multipliers? Check by
# solving CasADi's program with `g` replaced by `-g`.
#
# <details><summary>Solution</summary>
#
# They change sign, and nothing else changes.
#
# ```python
# import casadi as ca
# flipped = {**nodes.problem, "g": -nodes.problem["g"]}
# quiet = {"print_time": False, "ipopt": {"print_level": 0, "sb": "yes", "hessian_approximation": "limited-memory"}}
# answer = ca.nlpsol("s", "ipopt", flipped, quiet)(**nodes.bounds, **nodes.pack(ocp_nn.Trajectory(
#     trajectory.controls, trajectory.states)))
# lam = -np.array(answer["lam_g"]).ravel()
# print(np.abs(lam - nodes.pack(trajectory)["lam_g0"]).max())   # small: IPOPT's tolerance
# ```
# </details>
#
# **2.** How many nonzeros has the Jacobian of the constraints of multiple shooting for $N$ samples of a network
# $n_0$-$n$-$n$-1? Check your formula against `jacobian_sparsity`.
#
# <details><summary>Solution</summary>
#
# Row (sample, unit) of $d_0$: the $n_0+1$ weights of its unit and $-1$ for $x_1$: $Nn(n_0 + 2)$. Of $d_1$: the sample's
# $n$ states $x_1$, $n+1$ weights, and $-1$: $Nn(2n+2)$.
#
# ```python
# N, n0, n = 60, 10, 3
# assert N * n * (n0 + 2) + N * n * (2 * n + 2) == nodes.jacobian_sparsity.nnz()
# ```
# </details>
#
# ## What we did not show
#
# How to *use* the structure on the right: IPOPT's generic factorisation does not know that the matrix is a trajectory.
# And whether the extra freedom (states that need not obey the dynamics on the way) is of any use. Both are coming:
# [notebook 3](03_the_augmented_lagrangian_by_hand.ipynb) uses the freedom, [notebook
# 4](04_gauss_newton_by_forward_dp.ipynb) the structure.
