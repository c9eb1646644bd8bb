# %% [markdown]
# # 11. Error bars from the same matrix
#
# **Question.** A Gauss-Newton step factorises $H = J^\top J + \rho I$. After the last step nobody needs a step any
# more. What does the matrix know about what the network does *not* know?
#
# Read $\rho/2\,\lVert u\rVert^2$ as a Gaussian prior of the weights and the squares as Gaussian noise of variance
# $\sigma^2$. Near the minimum $u^*$ the objective over $\sigma^2$ is then the negative logarithm of the posterior, and
#
# $$u \mid \text{data} \sim N(u^*, \sigma^2 H^{-1}), \qquad
# f(x) \mid \text{data} \sim N(f(x; u^*),\ \sigma^2 J(x) H^{-1} J(x)^\top).$$

# %%
import matplotlib.pyplot as plt
import numpy as np

import ocp_nn
from ocp_nn.report import plot_bands, plot_coverage, plot_selection

plt.rcParams.update({"font.size": 13, "axes.grid": True, "grid.alpha": 0.3, "figure.constrained_layout.use": True})
rng = np.random.default_rng(0)


def measured(x, noise=0.1):
    return np.sin(2 * x) + noise * rng.standard_normal(x.shape)


x = rng.uniform(-2.5, 2.5, (90, 1))
x = x[(x < 0.2) | (x > 1.3)][:, None]  # nobody measured in between
y = measured(x)

# %% [markdown]
# ## How strong a prior?
#
# The same Gaussian integral says how probable the targets are under each weight decay, the *evidence*:
#
# $$\log p(y) = -\tfrac n2 \log 2\pi s - \tfrac{J^*}{s} - \tfrac12 \log\det(H/\rho), \qquad s = 2J^*/n.$$
#
# The first two terms reward a close fit. The last one is what a close fit costs: every direction of the weights in
# which the data say more than the prior. No sample is held out; one loose training a candidate, from strong to weak,
# is enough.

# %%
network = ocp_nn.Network.mlp([1, 12, 1])
selection = ocp_nn.choose_by_evidence(network, x, y)
print(selection.message)
problem = ocp_nn.TrainingProblem(network, x, y, selection.weight_decay)
result = ocp_nn.solve(problem, selection.controls)
posterior = ocp_nn.Posterior.of(problem, result.trajectory.controls)
noise = posterior.noise_variance**0.5
gamma = posterior.effective_parameters
print(f"noise {noise:.3f}; {gamma:.1f} of {network.num_controls} weights are decided by {len(y)} samples")
assert result.success and 0.07 < noise < 0.13 and gamma < network.num_controls / 2

# %%
grid = np.linspace(-3, 3, 200)[:, None]
mean, covariance = posterior.predict(grid)
std = covariance[:, 0, 0] ** 0.5
fig, axes = plt.subplots(1, 2, figsize=(13, 4.2), width_ratios=(1, 1.6))
plot_selection(selection, axes[0])
plot_bands(grid, mean, std, noise, axes[1], samples=(x, y))
axes[1].plot(grid, np.sin(2 * grid), "k:", label="truth")
axes[1].set_ylim(-2, 2)
plt.show()
gap, data = std[(grid[:, 0] > 0.5) & (grid[:, 0] < 1.0)].mean(), posterior.predict(x)[1][:, 0, 0].mean() ** 0.5
print(f"deviation of the function: {data:.3f} at the samples, {gap:.3f} in the gap")
assert gap > 2 * data

# %% [markdown]
# ## One matrix, three names
#
# *Inverse Gauss-Newton Hessian*: by differences, and inverted densely. *Covariance of a filter*: the samples come one
# after the other, and each is a measurement of the weights, which do not move; that is the recursion of the
# [fourth notebook](04_gauss_newton_by_forward_dp.ipynb)'s Kalman form. *Posterior of a Gaussian process* whose kernel
# is the tangent kernel $JJ^\top/\rho$: an $n\times n$ matrix, all that is needed where weights outnumber samples.

# %%
flat = np.concatenate(result.trajectory.controls)


def jacobian(inputs, h=1e-5):
    sides = [[network.predict(problem.split(flat + s * h * e), inputs) for e in np.eye(len(flat))] for s in (1, -1)]
    return (np.array(sides[0]) - np.array(sides[1]))[:, :, 0].T / (2 * h)


J, Jg, rho = jacobian(x), jacobian(grid), problem.weight_decay
inverse_hessian = np.linalg.inv(J.T @ J + rho * np.eye(len(flat)))
filtered = np.eye(len(flat)) / rho
for j in J:
    gain = filtered @ j / (1 + j @ filtered @ j)
    filtered = filtered - np.outer(gain, j @ filtered)
kernel = Jg @ Jg.T / rho - Jg @ J.T / rho @ np.linalg.solve(np.eye(len(x)) + J @ J.T / rho, J @ Jg.T / rho)
for name, variances in (
    ("inverse Hessian", np.diag(Jg @ inverse_hessian @ Jg.T)),
    ("filter", np.diag(Jg @ filtered @ Jg.T)),
    ("Gaussian process", np.diag(kernel)),
):
    difference = np.abs(noise * np.abs(variances) ** 0.5 - std).max() / std.max()
    print(f"{name:16s}: largest difference of deviations {difference:.0e}")
    assert difference < 1e-4

# %% [markdown]
# ## Do the intervals hold what they promise?
#
# Of 4,000 new targets: with the noise that was assumed, and with noise of long tails (one target in ten is ten times
# as far off). Gaussian intervals are then too wide in the middle; *calibrated* ones reach as far as the training
# residuals do, each divided as if its sample had been left out, which the leverages $J H^{-1} J^\top$ tell without
# training again.

# %%
new = rng.uniform(-2.5, 2.5, (4000, 1))
new = new[(new < 0.2) | (new > 1.3)][:, None]
mixed = [
    np.sin(2 * t) + np.where(rng.uniform(size=t.shape) < 0.1, 0.5, 0.05) * rng.standard_normal(t.shape)
    for t in (x, new)
]
tailed = ocp_nn.TrainingProblem(network, x, mixed[0], rho)
tails = ocp_nn.Posterior.of(tailed, ocp_nn.solve(tailed).trajectory.controls)
parts = []
for label, of, targets in (("Gaussian noise", posterior, measured(new)), ("long tails", tails, mixed[1])):
    mean, covariance = of.predict(new)
    parts.append((label, targets, mean, (covariance[:, 0, 0] + of.noise_variance) ** 0.5))
plot_coverage(parts, plt.figure(figsize=(5.5, 5)).gca())
plt.show()
held = {}
for calibrated in (False, True):
    low, high = tails.interval(new, 0.5, calibrated=calibrated)
    held[calibrated] = np.mean((low <= mixed[1]) & (mixed[1] <= high))
print(f"long tails, intervals for half of the targets: Gaussian hold {held[False]:.2f}, calibrated {held[True]:.2f}")
assert held[False] > 0.6 and abs(held[True] - 0.5) < abs(held[False] - 0.5)

# %% [markdown]
# ## Exercises
#
# **1.** Draw networks from the posterior and plot them over the gap. Do they scatter as the band says, and if not, why?
#
# <details><summary>Solution</summary>
#
# More than the band, where the weights are told badly: the band belongs to the network *linearised* at $u^*$, and far
# from $u^*$ the network is not linear. Moved linearly, the draws do scatter as the band says.
#
# ```python
# draws = posterior.sample(200, seed=1)
# curves = np.array([network.predict(u, grid)[:, 0] for u in draws])
# linear = np.array([network.predict(problem.split(flat), grid)[:, 0] + Jg @ (np.concatenate(u) - flat) for u in draws])
# plt.figure()
# plt.plot(grid, curves[:30].T, color="gray", alpha=0.4)
# ratio = np.std(linear, axis=0) / std
# assert np.all(np.abs(ratio - 1) < 0.25) and np.median(np.std(curves, axis=0) / std) > 1.2
# ```
# </details>
#
# **2.** Two classes: how sure is a classifier far from all samples, with and without the uncertainty of its weights?
#
# <details><summary>Solution</summary>
#
# Averaged over the posterior, log-odds $z$ of variance $v$ count as $z/\sqrt{1+\pi v/8}$: less sure far away.
#
# ```python
# points = rng.standard_normal((80, 2))
# classifier = ocp_nn.OCPClassifier((6,), weight_decay=0.1, random_state=0).fit(points, points[:, 0] * points[:, 1] > 0)
# far = np.array([[6.0, 0.3], [-0.3, 6.0]])
# plain, averaged = (classifier.predict_proba(far, marginal=m).max(axis=1) for m in (False, True))
# assert np.all(averaged < plain)
# ```
# </details>
#
# ## What we did not show
#
# Networks over time, whose initial states are uncertain, too (`StateSpaceRegressor.predict(..., return_std=True)`); how
# intervals and evidence do on real data, where the noise is neither white nor Gaussian (`scripts/posterior_suite.py`);
# and where the evidence chooses worse than held-out samples would, which it does on one of the four sets there.
