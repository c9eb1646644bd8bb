# %% [markdown]
# # 5. Conditioning
#
# **Question.** It is often said that multiple shooting is better conditioned than single shooting. Is that true for
# networks? What do depth, activation, penalty and initialisation do to each formulation, and does it decide whether
# training succeeds?
#
# A *hypothesis* in this notebook is a sentence with a matrix in it. The matrices, at a point:
#
# | formulation | matrix |
# |---|---|
# | single shooting | Jacobian $J$ of the outputs in all controls, Gauss-Newton matrix $\rho I + J^\top J$ |
# | multiple shooting | Jacobian $C$ of the defects $d_k$; KKT matrix $\begin{pmatrix}W & C^\top\\ C & 0\end{pmatrix}$ |
# | augmented Lagrangian | $W + \beta C^\top C$ in $(u, x)$, and what forward DP factorises instead |

# %%
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LogNorm

import ocp_nn
from ocp_nn import Scaler, conditioning, initialise
from ocp_nn.report import BLACK, BLUE, GREEN, ORANGE, RED

plt.rcParams.update({"font.size": 13, "axes.grid": True, "grid.alpha": 0.3, "figure.constrained_layout.use": True})

data = ocp_nn.load_dataset("sin2x")


def training(activation, depth):
    network = ocp_nn.Network.mlp([1, *[5] * depth, 1], activation)
    return ocp_nn.TrainingProblem(network, data.x[::2], data.y[::2], weight_decay=1e-3)


def spectra(problem, controls, matrices, penalties=(100.0,)):
    nodes = [(), range(1, problem.num_stages)]  # single and multiple shooting
    found = conditioning.measure(problem, problem.lift(controls), nodes=nodes, penalties=penalties, matrices=matrices)
    return {(m.matrix, m.shooting, m.penalty): m.spectrum for m in found}


# %% [markdown]
# ## The hypothesis on real data
#
# Sixty diabetes patients, two hidden tanh layers, random weights, $\rho = 1$. The condition number is the ratio of
# the largest to the smallest singular value.

# %%
diabetes = ocp_nn.load_dataset("diabetes")
x, y = (Scaler.fit(table).transform(table)[:60] for table in (diabetes.x, diabetes.y))
network = ocp_nn.Network.mlp([10, 5, 5, 1])
patients = ocp_nn.TrainingProblem(network, x, y, weight_decay=1.0)
names = ("gauss_newton", "hessian", "kkt_gauss_newton", "kkt", "constraint_jacobian", "al_gauss_newton", "dual")
table = spectra(patients, network.init_controls(seed=0), names)
for (matrix, shooting, penalty), spectrum in table.items():
    beta = "" if penalty is None else f"beta = {penalty:g}"
    size = f"{spectrum.rows} x {spectrum.columns}"
    print(f"{shooting:9s} {matrix:20s} {beta:11s} {size:>10s}  condition {spectrum.condition:.1e}")
pairs = (("gauss_newton", "kkt_gauss_newton"), ("hessian", "kkt"))
worse = [table[kkt, "multiple", None].condition / table[own, "single", None].condition for own, kkt in pairs]
print("KKT matrix over single shooting's matrix: {:.0f} (Gauss-Newton), {:.0f} (exact Hessian)".format(*worse))
constraint = table["constraint_jacobian", "multiple", None].condition
assert min(worse) > 1 and constraint < 1e3 and constraint < table["gauss_newton", "single", None].condition

# %% [markdown]
# So the sentence needs its matrix. The *constraints* of multiple shooting are well conditioned: each layer is
# linearised by itself. But the whole KKT matrix is worse conditioned than single shooting's matrix, with the
# Gauss-Newton and with the exact Hessian. That is one network. Of the 72 that `ocp-nn conditioning` measures
# (`docs/conditioning.md`), the KKT matrix is better in 3 with the Gauss-Newton Hessian, and in 37 with the exact one.
#
# ## Depth
#
# The same at random weights for deeper and deeper networks. The right panel shows the numerical rank of $J$ as a share
# of what it could be: in how many directions can weights move the outputs at all?

# %%
depths = (2, 4, 8, 12, 16)
lines = (
    ("gauss_newton", "single", BLUE, "o-", r"single: $\rho I + J^T J$"),
    ("kkt_gauss_newton", "multiple", RED, "s--", "multiple: KKT matrix"),
    ("constraint_jacobian", "multiple", GREEN, "^-.", "multiple: constraints $C$"),
)
fig, axes = plt.subplots(1, 3, figsize=(13, 4.6))
rank = {}
for ax, activation, style in zip(axes, ("tanh", "sigmoid"), ("o-", "s--"), strict=False):
    found = []
    for depth in depths:
        problem = training(activation, depth)
        found.append(spectra(problem, problem.network.init_controls(0), ("jacobian", *(line[0] for line in lines))))
    for matrix, shooting, color, marker, label in lines:
        ax.semilogy(depths, [s[matrix, shooting, None].condition for s in found], marker, color=color, label=label)
    ax.set(title=activation, xlabel="hidden layers", ylabel="condition number", ylim=(1, 1e9))
    jacobians = [s["jacobian", "single", None] for s in found]
    rank[activation] = [j.rank / min(j.rows, j.columns) for j in jacobians]
    axes[2].plot(depths, rank[activation], style, color=BLACK, label=activation)
axes[2].set(title="rank of $J$", xlabel="hidden layers", ylabel="share of full rank", ylim=(0, 1))
axes[2].legend(frameon=False)
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
plt.show()
print({name: [f"{share:.0%}" for share in shares] for name, shares in rank.items()})
assert rank["sigmoid"][-1] < rank["sigmoid"][0] and rank["sigmoid"][-1] < rank["tanh"][-1]

# %% [markdown]
# Notebook 7 shows that it is deep sigmoid networks that single shooting does not train from such weights. The
# condition number does not warn of it: the smallest eigenvalue is $\rho$, whatever the network does. What depth
# destroys in them is *rank* (tanh keeps it), and weight decay hides that from the condition number.
#
# ## Where the signal goes
#
# A change of $x_j$ arrives at $x_{k+1}$ through $A_k\cdots A_j$, and costates come back through its transpose. Single
# shooting multiplies all of them; multiple shooting sees the diagonal only.

# %%
fig, axes = plt.subplots(1, 2, figsize=(11, 4.6), sharey=True)
far = {}
for ax, activation in zip(axes, ("tanh", "sigmoid"), strict=True):
    problem = training(activation, 12)
    layers = conditioning.measure_layers(problem, problem.rollout(problem.network.init_controls(0)))
    mesh = ax.imshow(layers.product_largest, cmap="cividis", norm=LogNorm(1e-8, 10))
    ax.grid(False)
    ax.set(title=activation, xlabel="last stage $k$", xticks=range(0, 13, 4), yticks=range(0, 13, 4))
    far[activation] = layers.product_largest[0, -1], np.diag(layers.product_largest).min()
axes[0].set_ylabel("first stage $j$")
fig.colorbar(mesh, ax=axes, label=r"largest singular value of $A_k \cdots A_j$")
plt.show()
print({name: f"all stages {a:.1e}, weakest single stage {b:.1e}" for name, (a, b) in far.items()})
assert far["sigmoid"][0] < 1e-5 < 0.05 < far["sigmoid"][1]

# %% [markdown]
# ## The penalty
#
# The normal equations of the augmented Lagrangian in $(u, x)$ get worse in proportion to $\beta$, and $\beta$ grows.
# Forward DP does not factorise that matrix. What it factorises tends to single shooting's matrix as $\beta\to\infty$,
# and stays there.

# %%
problem, betas = training("sigmoid", 8), 10.0 ** np.arange(0, 9, 2)
by_penalty = spectra(problem, problem.network.init_controls(0), ("al_gauss_newton", "dual", "primal_qr"), betas)
fig, ax = plt.subplots(figsize=(8, 4.2))
curves = {"al_gauss_newton": (RED, "s--"), "dual": (BLUE, "o-"), "primal_qr": (ORANGE, "^-.")}
for name, (color, marker) in curves.items():
    values = [by_penalty[name, "multiple", beta].condition for beta in betas]
    ax.loglog(betas, values, marker, color=color, label=name)
    curves[name] = values
ax.set(xlabel=r"penalty $\beta$", ylabel="condition number")
ax.legend(frameon=False)
plt.show()
assert (
    curves["al_gauss_newton"][-1] > 1e5 * curves["al_gauss_newton"][0] and curves["dual"][-1] < 10 * curves["dual"][0]
)

# %% [markdown]
# ## Initialisation, and what predicts success
#
# Ten sigmoid layers from four starts: condition number and rank at the start, and what 300 steps of single-shooting
# Levenberg-Marquardt (`lm`) and of the augmented Lagrangian (`al`) make of it (error relative to the constant
# predictor: 1 means nothing learnt).

# %%
ten, ends = training("sigmoid", 10), {}
print("start        condition   rank   signal   error of lm   of al")
for start in ("standard", "xavier", "orthogonal", "states"):
    u = initialise(ten, start, 0)
    found, signal = (
        spectra(ten, u, ("gauss_newton", "jacobian")),
        conditioning.measure_layers(ten, ten.rollout(u)).signal_ratio,
    )
    condition, share = found["gauss_newton", "single", None].condition, found["jacobian", "single", None].rank / 50
    ends[start] = [conditioning.run_trial(method, ten, u, steps=300).best_error for method in ("lm", "al")]
    print(f"{start:12s} {condition:.1e} {share:7.0%} {signal:8.0e} {ends[start][0]:10.3f} {ends[start][1]:10.3f}")
assert ends["standard"][0] > 0.9 and max(ends["states"]) < 0.3 and ends["standard"][1] < 0.3

# %% [markdown]
# The start with the *largest* condition number is the one from which everybody trains; the others have smaller ones
# because their Jacobians have few directions left. So, from what we have computed:
#
# - "Multiple shooting is better conditioned" holds for the constraints. For the KKT matrix it failed in our example;
# over many networks it fails nearly always with the Gauss-Newton Hessian (better in 3 of 72) and is as often right as
# wrong with the exact one (37 of 72).
# - The condition number of single shooting says little about trainability: weight decay sets it. Rank and signal say
# more, and even they do not decide (the augmented Lagrangian trains all four).
# - What multiple shooting offers is not a better-conditioned matrix but another path: states that may move first.
#
# ## Exercises
#
# **1.** The smallest eigenvalue of $\rho I + J^\top J$ is $\rho$ as soon as $P > Nm$ (why?). Verify that the condition
# number is about $\sigma_1^2(J)/\rho$, and that $\rho$ alone moves it.
#
# <details><summary>Solution</summary>
#
# $J$ has $Nm < P$ rows, hence a null space, on which $\rho I + J^\top J$ is $\rho$.
#
# ```python
# for rho in (1e-4, 1e-2, 1.0):
#     p = ocp_nn.TrainingProblem(ten.network, ten.x, ten.y, weight_decay=rho)
#     s = spectra(p, p.network.init_controls(0), ("jacobian", "gauss_newton"))
#     J, M = s["jacobian", "single", None], s["gauss_newton", "single", None]
#     print(f"{rho:g}: {M.condition:.3e}, {(J.largest**2 + rho) / rho:.3e}")
#     assert np.isclose(M.condition, (J.largest**2 + rho) / rho)
# ```
# </details>
#
# **2.** Partial shooting: for twelve sigmoid layers, measure the constraint Jacobian with a node at every layer, at
# every third, and at the middle only. What do you expect, and why?
#
# <details><summary>Solution</summary>
#
# ```python
# p = training("sigmoid", 12)
# point = p.lift(p.network.init_controls(0))
# for nodes in (range(1, 13), range(3, 13, 3), [6]):
#     (found,) = conditioning.measure(p, point, nodes=[nodes], matrices=["constraint_jacobian"])
#     print(f"{found.shooting:10s} condition {found.spectrum.condition:.2f}")
# ```
# All are small: $C = [\,\ldots A\; B\; {-I}\ldots]$ contains an identity for each node, and products of contracting
# sigmoid layers between nodes do not grow. With exploding layers (try larger weights) long intervals are the worse
# ones.
# </details>
#
# ## What we did not show
#
# Many seeds, data sets and widths, conditioning *along* a training, and rank correlations with success: the command
# `ocp-nn conditioning` does the study and writes tables and a verdict. One seed a network, as here, is an illustration.
# And scaling: condition numbers change with the units of the variables, the rank does not.
