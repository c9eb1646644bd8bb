"""Our posterior beside laplace-torch's, of the same network with the same weights: equal numbers, and the time.

    python scripts/posterior_peers.py --data FOLDER [--sets NAME ...] [--hidden WIDTH] [--markdown FILE]

Per set the first standard split, one network trained by ``OCPRegressor``, all weights in double precision, the full
Gauss-Newton matrix and the same noise and prior on both sides.  Differences are relative to the largest value; seconds
are processor seconds of the fit of the posterior and of the standard deviations of the test samples, least of three;
ours once with the check that the weights are a minimum, which laplace-torch has not.  Needs PyTorch and laplace-torch,
which the project does not install.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is there: no threads, none to be stopped
sys.path.insert(0, str(Path(__file__).resolve().parent))
import numpy as np
from bench import commit, processor, write_markdown

import ocp_nn
from ocp_nn.learning.data import standard_splits

SETS = ("yacht", "energy", "bostonHousing")
REPEATS = 3


def timed(act: Callable[[], Any]) -> tuple[Any, float]:
    """What it returns, and the least of three processor times."""
    times = []
    for _ in range(REPEATS):
        began = time.process_time()
        found = act()
        times.append(time.process_time() - began)
    return found, min(times)


def torch_network(problem: ocp_nn.TrainingProblem, controls: Sequence[np.ndarray]) -> Any:
    """The same network in PyTorch, in double precision."""
    import torch

    layers: list[Any] = []
    sizes = problem.network.sizes
    for k, (inputs, outputs) in enumerate(pairwise(sizes)):
        layer = torch.nn.Linear(inputs, outputs, dtype=torch.float64)
        weights, biases = problem.network.layers[k].weights(controls[k])
        layer.weight.data = torch.tensor(np.ascontiguousarray(weights))
        layer.bias.data = torch.tensor(np.ascontiguousarray(biases))
        layers += [layer, torch.nn.Tanh()]
    return torch.nn.Sequential(*layers[:-1])


def measure(folder: Path, hidden: int) -> dict[str, float]:
    """One set."""
    import torch
    from laplace import Laplace
    from torch.utils.data import DataLoader, TensorDataset

    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    data = ocp_nn.load_dataset(folder)
    rows = next(islice(standard_splits(data.num_samples), 0, None))
    model = ocp_nn.OCPRegressor((hidden,), random_state=0).fit(data.x[rows.train], data.y[rows.train].ravel())
    problem, controls = model.posterior_.problem, model.posterior_.controls
    new = model.result_.model.x_scaler.transform(data.x[rows.test])
    _, checked = timed(lambda: ocp_nn.Posterior.of(problem, controls))
    ours, fit = timed(lambda: ocp_nn.Posterior.of(problem, controls, check=False))
    (_, covariances), predict = timed(lambda: ours.predict(new))
    network = torch_network(problem, controls)
    samples = TensorDataset(torch.tensor(problem.x), torch.tensor(problem.y))
    noise = ours.noise_variance

    def theirs() -> Any:
        found = Laplace(network, "regression", subset_of_weights="all", hessian_structure="full",
                        sigma_noise=noise**0.5, prior_precision=problem.weight_decay / noise)  # fmt: skip
        found.fit(DataLoader(samples, batch_size=len(samples)))
        return found

    other, other_fit = timed(theirs)
    (mean, variances), other_predict = timed(lambda: other(torch.tensor(new)))
    assert np.allclose(mean.detach().numpy(), problem.network.predict(controls, new), atol=1e-9)
    stds = np.sqrt(covariances[:, 0, 0]), np.sqrt(variances.detach().numpy()[:, 0, 0])
    evidence = ours.log_evidence(noise), float(other.log_marginal_likelihood())
    return {
        "weights": problem.network.num_controls,
        "std": float(np.abs(stds[0] - stds[1]).max() / stds[1].max()),
        "evidence": abs(evidence[0] - evidence[1]) / abs(evidence[1]),
        "checked": checked,
        "fit": fit,
        "other fit": other_fit,
        "predict": predict,
        "other predict": other_predict,
    }


def table(results: dict[str, dict[str, float]]) -> str:
    head = ["set", "weights", "difference of deviations", "of the evidence", "our fit", "with check",
            "laplace-torch's", "ratio", "our predictions", "laplace-torch's"]  # fmt: skip
    lines = [head, ["---"] * len(head)]
    for name, of in results.items():
        numbers = [f"{of['weights']:g}", f"{of['std']:.0e}", f"{of['evidence']:.0e}", f"{of['fit']:.4f}"]
        times = [f"{of['checked']:.3f}", f"{of['other fit']:.3f}", f"{of['other fit'] / of['fit']:.0f}"]
        lines.append([name, *numbers, *times, f"{of['predict']:.4f}", f"{of['other predict']:.3f}"])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the sets")
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    parser.add_argument("--hidden", type=int, default=50, help="units of the one hidden layer")
    parser.add_argument("--markdown", type=Path)
    given = list(sys.argv[1:] if arguments is None else arguments)
    args = parser.parse_args(given)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = {name: measure(args.data / name, args.hidden) for name in args.sets}
    text = (
        f"{table(results)}\n\n`python scripts/posterior_peers.py {' '.join(given)}`; commit {commit()}, {processor()}."
    )
    print(text)
    if args.markdown:
        write_markdown(args.markdown, text)


if __name__ == "__main__":
    main()
