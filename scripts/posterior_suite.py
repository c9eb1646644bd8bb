"""How honest the Laplace posterior is: coverage of 90 % intervals and log-likelihood of test targets, on real data.

    python scripts/posterior_suite.py --data FOLDER [--sets NAME ...] [--splits N] [--hidden WIDTH]
                                      [--rules RULE ...] [--markdown FILE]

Per standard split one ``OCPRegressor`` for each rule by which it chooses its weight decay; the posterior at its
solution gives intervals and densities of the test targets, noise included.  The rule "scikit-learn" is its
``MLPRegressor`` by L-BFGS, its alpha (the same weight decay) searched by ``GridSearchCV`` among as many as the evidence
tries on this split, the same ones.  Seconds are processor seconds: of the fit, and of posterior and test densities
together.  One BLAS thread.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from collections.abc import Sequence
from itertools import islice, product
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is there: no threads, none to be stopped
sys.path.insert(0, str(Path(__file__).resolve().parent))
import numpy as np
from bench import signed, write_markdown

import ocp_nn
from ocp_nn.learning.data import standard_splits

Results = dict[tuple[str, str], list[dict[str, float]]]

SETS = ("yacht", "energy", "bostonHousing", "power-plant")
COVERAGE = 0.9
PEER = "scikit-learn"


def measure(folder: Path, split: int, hidden: int, rule: str = "auto") -> dict[str, float]:
    """One split."""
    data = ocp_nn.load_dataset(folder)
    rows = next(islice(standard_splits(data.num_samples), split, None))
    x, y = data.x[rows.test], data.y[rows.test].ravel()
    began = time.process_time()
    model = ocp_nn.OCPRegressor((hidden,), weight_decay=rule, random_state=0)
    model.fit(data.x[rows.train], data.y[rows.train].ravel())
    fitted = time.process_time()
    mean, std = model.predict(x, return_std=True)
    low, high = model.prediction_interval(x, COVERAGE)
    deviation = np.hypot(std, model.noise_std_)
    densities = -0.5 * np.log(2 * np.pi * deviation**2) - 0.5 * ((y - mean) / deviation) ** 2
    return {
        "rmse": float(np.sqrt(np.mean((y - mean) ** 2))),
        "log-likelihood": float(densities.mean()),
        "coverage": float(np.mean((low <= y) & (y <= high))),
        "log10 rho": float(np.log10(model.weight_decay_)),
        "gamma": model.effective_num_parameters_,
        "fit": fitted - began,
        "posterior": time.process_time() - fitted,
    }


def measure_scikit_learn(folder: Path, split: int, hidden: int) -> dict[str, float]:
    """The same split by scikit-learn, without a posterior."""
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.model_selection import GridSearchCV
    from sklearn.neural_network import MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    data = ocp_nn.load_dataset(folder)
    rows = next(islice(standard_splits(data.num_samples), split, None))
    x, y = data.x[rows.train], data.y[rows.train].ravel()
    tried = ocp_nn.OCPRegressor((hidden,), weight_decay="evidence", random_state=0).fit(x, y).selection_.candidates
    network = MLPRegressor(
        hidden_layer_sizes=(hidden,), activation="tanh", solver="lbfgs", max_iter=2000, random_state=0
    )
    whole = TransformedTargetRegressor(make_pipeline(StandardScaler(), network), transformer=StandardScaler())
    began = time.process_time()
    found = GridSearchCV(whole, {"regressor__mlpregressor__alpha": tried}).fit(x, y)
    seconds = time.process_time() - began
    errors = found.predict(data.x[rows.test]) - data.y[rows.test].ravel()
    nothing = dict.fromkeys(("log-likelihood", "coverage", "gamma", "posterior"), np.nan)
    rho = float(np.log10(found.best_params_["regressor__mlpregressor__alpha"]))
    return {"rmse": float(np.sqrt(np.mean(errors**2))), "log10 rho": rho, "fit": seconds, **nothing}


def table(results: Results) -> str:
    """Means over the splits, with standard errors of the first two."""
    head = ["set", "rule", "splits", "test RMSE", "test log-likelihood", f"coverage of {100 * COVERAGE:g} %",
            "log10 rho", "gamma", "seconds of a fit", "of its posterior"]  # fmt: skip
    lines = [head, ["---"] * len(head)]
    for (name, rule), rows in results.items():
        values = {key: np.array([row[key] for row in rows]) for key in rows[0]} if rows else {}
        if not values:
            lines.append([name, rule, "0", *[""] * (len(head) - 3)])
            continue
        errors = {key: of.std(ddof=1) / np.sqrt(len(of)) if len(of) > 1 else np.nan for key, of in values.items()}
        means = {key: of.mean() for key, of in values.items()}
        lines.append([name, rule, str(len(rows)),
                      *(f"{means[key]:.3f} +- {errors[key]:.3f}" for key in ("rmse", "log-likelihood")),
                      f"{means['coverage']:.3f}", f"{means['log10 rho']:.1f}", f"{means['gamma']:.0f}",
                      f"{means['fit']:.1f}", f"{means['posterior']:.2f}"])  # fmt: skip
    return "\n".join("| " + " | ".join(line).replace("nan +- nan", "").replace("nan", "") + " |" for line in lines)


def main(arguments: Sequence[str] | None = None) -> Results:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the sets")
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--hidden", type=int, default=50, help="units of the one hidden layer")
    parser.add_argument(
        "--rules", nargs="+", default=["auto", "evidence", "held-out"], choices=("auto", "evidence", "held-out", PEER)
    )
    parser.add_argument("--markdown", type=Path)
    given = list(sys.argv[1:] if arguments is None else arguments)
    args = parser.parse_args(given)
    results: Results = {(name, rule): [] for name in args.sets for rule in args.rules}
    # rule beside rule, so that their seconds are of one time
    for name, split, rule in product(args.sets, range(args.splits), args.rules):
        with warnings.catch_warnings():  # a fit that ends at a limit is refused by its posterior
            warnings.simplefilter("ignore")
            try:
                if rule == PEER:
                    found = measure_scikit_learn(args.data / name, split, args.hidden)
                else:
                    found = measure(args.data / name, split, args.hidden, rule)
                results[name, rule].append(found)
            except ValueError as error:
                print(f"{name}, {rule}, split {split}: {error}", flush=True)
                continue
        print(f"{name}, {rule}, split {split}: {results[name, rule][-1]}", flush=True)
    text = signed(table(results), "posterior_suite.py", given)
    print(text)
    if args.markdown:
        write_markdown(args.markdown, text)
    return results


if __name__ == "__main__":
    main()
