# %% [markdown]
# # 4. Gauss-Newton by forward dynamic programming
#
# **Question.** One Gauss-Newton step is a linear least-squares problem in all weights *and* all states of all samples.
# How can it be solved stage by stage, and what has that to do with the Kalman filter and the neural tangent kernel?
#
# $$\min_{du,\,dx}\;\sum_k \tfrac\rho2\lVert u_k+du_k\rVert^2+\tfrac\mu2\lVert du_k\rVert^2
# +\sum_{k<K-1}\tfrac{\beta_k}2\lVert A_kdx_k+B_kdu_k-dx_{k+1}+c_k\rVert^2
# +\tfrac12\lVert A_{K-1}dx_{K-1}+B_{K-1}du_{K-1}+r\rVert^2,\quad dx_0=0$$
#
# The start is known and the end is not, so dynamic programming runs *forward*: the **cost-to-arrive** $V_k(dx_k)$ is
# the least cost with which the stages before $k$ can bring the state to $dx_k$.

# %%
import casadi as ca
import matplotlib.pyplot as plt
import numpy as np

import ocp_nn
from ocp_nn import Scaler
from ocp_nn import augmented_lagrangian as al
from ocp_nn.forward_dp import FORMS, choose_form, predict_covariance, solve
from ocp_nn.report import BLACK, BLUE, GREY, ORANGE, RED

plt.rcParams.update({"font.size": 13, "axes.grid": True, "grid.alpha": 0.3, "figure.constrained_layout.use": True})


def subproblem(problem, controls, beta, damping):
    """The least-squares problem at a rollout, with no multipliers yet: c_k = 0."""
    rollout, nodes = problem.rollout(controls), problem.num_stages - 1
    zero = tuple(np.zeros_like(s) for s in rollout.states[1:])
    lagrangian = al.AugmentedLagrangian(problem, zero, (beta,) * nodes)
    return lagrangian.subproblem(lagrangian.at(rollout.controls, rollout.states), damping)


# %% [markdown]
# ## The cost-to-arrive in pictures
#
# One sample, two units a layer: $V_k$ is a quadratic over the plane. The ellipses are where $V_k = 1/2$, one standard
# deviation of the Gaussian that $\exp(-V_k)$ is; its mean $m_k$ is left out. It is carried forward as mean and
# covariance, $V_k(dx)=\tfrac12(dx-m_k)^\top P_k^{-1}(dx-m_k)$, and with $q=1/(\rho+\mu)$
#
# $$P_{k+1}=A_kP_kA_k^\top+q\,B_kB_k^\top+I/\beta_k ,$$
#
# which is the prediction step of a **Kalman filter**: controls are disturbances of variance $q$, the slack of the
# dynamics is process noise of variance $1/\beta_k$. No noise ($\beta=\infty$) is single shooting.

# %%
tiny = ocp_nn.Network.mlp([2, 2, 2, 2, 1])
one = ocp_nn.TrainingProblem(tiny, [[1.0, -0.5]], [[1.0]], weight_decay=1.0)
circle = np.array([np.cos(np.linspace(0, 2 * np.pi, 200)), np.sin(np.linspace(0, 2 * np.pi, 200))])
fig, axes = plt.subplots(1, 3, figsize=(12, 4.6), sharex=True, sharey=True)
for beta, color, style, name in ((np.inf, RED, "--", r"\infty"), (10.0, ORANGE, "-.", "10"), (1.0, BLUE, "-", "1")):
    sub = subproblem(one, tiny.init_controls(seed=8), beta, damping=0.0)
    for k, (ax, covariance) in enumerate(zip(axes, predict_covariance(sub), strict=False), start=1):
        p = covariance[0, :, 0, :] / sub.ridge
        ax.plot(*np.linalg.cholesky(p) @ circle, style, color=color, linewidth=2, label=rf"$\beta={name}$")
        ax.set(title=f"$V_{k} = 1/2$", xlabel="change of unit 1", xlim=(-2.7, 2.7), ylim=(-2.7, 2.7))
        ax.set_aspect("equal")
axes[0].set_ylabel("change of unit 2")
axes[0].legend(frameon=False, loc="upper left")
plt.show()

# %% [markdown]
# A soft spring makes the states cheap to move: that is the freedom that notebook 3 used.
#
# ## Four forms, one step
#
# The same recursion can carry square roots of $V_k$ (*information*, the textbook form by QR), covariances
# (*covariance*), only what reaches the outputs (*dual*, $Nm\times Nm$) or only what depends on the weights (*primal*,
# $P\times P$). On real data, 80 of the diabetes patients:

# %%
data = ocp_nn.load_dataset("diabetes")
x, y = Scaler.fit(data.x).transform(data.x), Scaler.fit(data.y).transform(data.y)
network = ocp_nn.Network.mlp([10, 4, 4, 1])
patients = ocp_nn.TrainingProblem(network, x[:80], y[:80], weight_decay=0.1)
sub = subproblem(patients, network.init_controls(seed=0), beta=10.0, damping=0.1)
steps = {form: solve(sub, form) for form in FORMS}
reference = np.concatenate(steps["information"].controls)
for form, found in steps.items():
    error = np.abs(np.concatenate(found.controls) - reference).max() / np.abs(reference).max()
    value = sub.value(found.controls, found.states)
    print(f"{form:12s} value {value:.12f}, step differs from the information form's by {error:.1e}")
    assert error < 1e-9

# %% [markdown]
# Which form is worth it depends on the sizes: $Nm$ outputs against $P$ weights. The library predicts both.

# %%
for num_samples, hidden in ((442, [50, 50]), (442, [5, 5])):
    net = ocp_nn.Network.mlp([10, *hidden, 1])
    some = ocp_nn.TrainingProblem(net, x[:num_samples], y[:num_samples], weight_decay=0.1)
    form, reason = choose_form(subproblem(some, net.init_controls(0), 10.0, 0.1))
    print(f"N m = {num_samples}, P = {net.num_controls}: {form}")
    assert form == ("dual" if num_samples < net.num_controls else "primal")

# %% [markdown]
# ## The output covariance is the neural tangent kernel
#
# The dual form carries a single matrix, the covariance of the network's outputs under random controls and slack:
#
# $$S = I + q\sum_k (\Psi_kB_k)(\Psi_kB_k)^\top + \text{blockdiag}_i\Big(\sum_k\Psi_k^i\Psi_k^{i\top}/\beta_k\Big).$$
#
# For $\beta=\infty$ this is $I + qJJ^\top$ with $J$ the Jacobian of all outputs in all weights, and $JJ^\top$ is the
# empirical **neural tangent kernel**. We check it twice: against CasADi's $J$, and by simulating random weights.

# %%
sin = ocp_nn.load_dataset("sin2x")
order = np.argsort(sin.x[:, 0])[::2]
xs, ys = sin.x[order], sin.y[order]
net = ocp_nn.Network.mlp([1, 10, 10, 1])
curve = ocp_nn.TrainingProblem(net, xs, ys, weight_decay=1e-2)
u = net.init_controls(seed=1)
sub = subproblem(curve, u, np.inf, damping=0.1)
*_, last = predict_covariance(sub)
S = last.reshape(len(xs), len(xs)) / sub.ridge

weights = ca.MX.sym("u", net.num_controls)
cuts = np.cumsum([0] + [layer.num_controls for layer in net.layers])
state = ca.DM(xs.T)
for k, stage in enumerate(net.stages):
    state = stage.map(len(xs), "serial")(state, ca.repmat(weights[cuts[k] : cuts[k + 1]], 1, len(xs)))
jacobian = ca.Function("J", [weights], [ca.jacobian(ca.vec(state), weights)])
jacobian = np.array(jacobian(np.concatenate(u)))
ntk = jacobian @ jacobian.T
print(f"S against I + q J J': {np.abs(S - np.eye(len(xs)) - ntk / sub.ridge).max() / S.max():.1e}")
assert np.allclose(S, np.eye(len(xs)) + ntk / sub.ridge, rtol=1e-10)

rng, flat, small = np.random.default_rng(0), np.concatenate(u), 1e-3
draws = [net.predict(net.split(flat + small * rng.standard_normal(flat.size)), xs)[:, 0] for _ in range(4000)]
simulated = np.cov(np.array(draws).T) / small**2
fig, axes = plt.subplots(1, 2, figsize=(11, 4.6), sharey=True)
for ax, matrix, title in zip(axes, (ntk, simulated), ("forward DP: $JJ^T$", "4000 random weights"), strict=True):
    mesh = ax.pcolormesh(xs[:, 0], xs[:, 0], matrix, cmap="cividis", vmin=ntk.min(), vmax=ntk.max())
    ax.grid(False)
    ax.set(title=title, xlabel="input of sample i", aspect="equal")
axes[0].set_ylabel("input of sample j")
fig.colorbar(mesh, ax=axes, label="covariance of the outputs")
plt.show()
assert np.linalg.norm(simulated - ntk) < 0.1 * np.linalg.norm(ntk)

# %% [markdown]
# ## A Gauss-Newton step is Gaussian-process regression
#
# The residual that the linear model predicts after the step is $\eta_K = S^{-1}\hat r$ with $\hat r = r + J\bar u$ and
# $\bar u = -\rho q u$: kernel ridge regression with the tangent kernel at the current weights. The linear model would
# fit the data; the true network, moved by the same $du$, need not follow that far. Hence the damping $\mu$.

# %%
before = net.predict(u, xs)
fig, axes = plt.subplots(1, 3, figsize=(12, 4), sharey=True)
misfits = {}
for ax, mu in zip(axes, (1e-2, 1.0, 10.0), strict=True):
    sub = subproblem(curve, u, np.inf, damping=mu)
    found = solve(sub)
    eta = found.multipliers[-1]
    predicted = sub.residual[:, 0] + jacobian @ np.concatenate(sub.mean_controls)
    assert np.allclose(eta[:, 0], np.linalg.solve(np.eye(len(xs)) + ntk / sub.ridge, predicted), atol=1e-8)
    moved = net.predict(tuple(a + b for a, b in zip(u, found.controls, strict=True)), xs)
    ax.plot(xs, ys, ".", color=GREY, label="data")
    ax.plot(xs, before, ":", color=BLACK, label="before")
    ax.plot(xs, ys + eta, color=BLUE, linewidth=2, label="after, linear model")
    ax.plot(xs, moved, "--", color=RED, linewidth=2, label="after, network")
    ax.set(title=rf"damping $\mu$ = {mu:g}", xlabel="input $x_0$", ylim=(-3, 3))
    misfits[mu] = np.sum((before - ys) ** 2), np.sum(eta**2), np.sum((moved - ys) ** 2)
    print("mu = {:5g}: squared misfit {:.2f}; after {:.2f} in the model, {:.2f} in truth".format(mu, *misfits[mu]))
axes[0].set_ylabel("output")
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
plt.show()
assert misfits[1e-2][2] > misfits[1e-2][0] and misfits[10.0][2] < misfits[10.0][0]

# %% [markdown]
# Too little damping believes the linear model beyond its validity and the fit gets *worse*; Levenberg-Marquardt raises
# $\mu$ until model and truth agree well enough.
#
# ## Exercises
#
# **1.** The backward pass. Show from the optimality conditions that $\eta_k = A_k^\top\eta_{k+1}$ and that
# $du_k = \bar u_k - q\sum_i B_k^{i\top}\eta_{k+1}^i$. What is this sweep? Check it on `steps["dual"]`.
#
# <details><summary>Solution</summary>
#
# Stationarity of the least-squares problem in $dx_k$ and $du_k$, with $\eta_{k+1} =
# \beta_k(A_kdx_k+B_kdu_k-dx_{k+1}+c_k)$. It is back-propagation of the *predicted* residual instead of the present one.
#
# ```python
# sub = subproblem(patients, network.init_controls(seed=0), beta=10.0, damping=0.1)
# found = steps["dual"]
# for k, stage in enumerate(sub.stages):
#     du = sub.mean_controls[k] - stage.transpose_control(found.multipliers[k]) / sub.ridge
#     assert np.allclose(du, found.controls[k])
#     if k:
#         assert np.allclose(stage.transpose_state(found.multipliers[k]), found.multipliers[k - 1])
# ```
# </details>
#
# **2.** For a network that is one linear layer, how many Gauss-Newton steps without damping train it? Compare with
# ridge regression on the diabetes data.
#
# <details><summary>Solution</summary>
#
# One: the problem is linear least squares, and the primal form solves its normal equations.
#
# ```python
# linear = ocp_nn.Network.mlp([10, 1])
# ridge = ocp_nn.TrainingProblem(linear, x, y, weight_decay=5.0)
# u0 = linear.init_controls(0)
# once = u0[0] + solve(subproblem(ridge, u0, np.inf, damping=0.0)).controls[0]
# X = np.hstack([x, np.ones((len(x), 1))])
# assert np.allclose(once, np.linalg.solve(X.T @ X + 5.0 * np.eye(11), X.T @ y)[:, 0])
# ```
# </details>
#
# ## What we did not show
#
# Why the dual form never forms $B_k$ (for dense layers $B_k$ is a Kronecker product, and $JJ^\top$ a sum of entrywise
# products of small Gram matrices), how the primal form streams over samples, and measured times: see
# `scripts/bench_forward_dp.py`. The tangent kernel here belongs to the present weights; it is not constant during
# training.
