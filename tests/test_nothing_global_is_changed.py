"""What belongs to the process is after a session what it was before: fit, predict, IPOPT, exports, figures, files.

Each session runs in a fresh process, since much of this happens once, when a package is first imported.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

STATE = """
import gc, locale, logging, os, random, signal, sys, threading, warnings
from pathlib import Path
import matplotlib, numpy as np
from threadpoolctl import threadpool_info

def umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask

def state():
    return {
        "random": random.getstate(),
        "numpy.random": repr(np.random.get_state()),
        "warning filters": [str(entry) for entry in warnings.filters],
        "showwarning": warnings.showwarning,
        "errstate": np.geterr(),
        "print options": np.get_printoptions(),
        "BLAS threads": sorted(str((e["filepath"], e["num_threads"])) for e in threadpool_info()),
        "rcParams": {key: str(value) for key, value in dict.items(matplotlib.rcParams)},
        "pyplot": "matplotlib.pyplot" in sys.modules,
        "locale": locale.setlocale(locale.LC_ALL),
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "umask": umask(),
        "path": list(sys.path),
        "hooks": (sys.excepthook, threading.excepthook, sys.displayhook, sys.unraisablehook, sys.gettrace()),
        "streams": (sys.stdin, sys.stdout, sys.stderr),
        "recursion limit": sys.getrecursionlimit(),
        "switch interval": sys.getswitchinterval(),
        "garbage collector": (gc.isenabled(), gc.get_threshold()),
        "log": (logging.root.level, list(logging.root.handlers), logging.lastResort),
        "threads": threading.enumerate(),
    }

def say_what_changed(before):
    after = state()
    changed = {name: (before[name], after[name]) for name in before if before[name] != after[name]}
    print("CHANGED", {name: str(values)[:400] for name, values in changed.items()})
"""

PREPARED = """
import casadi, scipy.linalg, scipy.sparse, scipy.special  # which filter warnings of their own once imported
folder = sys.argv[1]
random.seed(1); np.random.seed(1)
np.set_printoptions(precision=3); np.seterr(divide="raise"); warnings.simplefilter("error")
before = state()
"""

SESSIONS = {
    "the command line": """
from ocp_nn.cli import main
out = f"{folder}/fit"
assert main(["fit", "sin2x", "--hidden", "4", "--weight-decay", "1", "--out", out]) == 0
assert main(["fit", "--resume", out]) == 0
for to in ("casadi", "c", "numpy"):
    assert main(["export", out, "--to", to]) == 0
Path(f"{folder}/new.csv").write_text("x\\n0.5\\n")
assert main(["predict", out, f"{folder}/new.csv"]) == 0
assert main(["compare", "sin2x", "--hidden", "2", "--weight-decay", "1", "--methods", "al,ipopt-single",
             "--out", f"{folder}/compare"]) == 0
assert main(["conditioning", "sin2x", "--depths", "1", "--widths", "2", "--seeds", "1", "--activations", "tanh",
             "--out", f"{folder}/sweep", "--workers", "1"]) == 0
assert main(["doctor"]) in (0, 1) and main(["datasets"]) == 0
""",
    "the library": """
import ocp_nn
from ocp_nn.report import LiveHistory, convergence_figure, layers_figure, predictions_figure, write_figure
x = np.linspace(-2, 2, 30)[:, None]
problem = ocp_nn.TrainingProblem(ocp_nn.Network.mlp([1, 4, 1]), x, np.sin(x), 1e-2)
with LiveHistory() as live:
    result = ocp_nn.solve(problem, callback=live, checkpoint=f"{folder}/checkpoint.npz")
result.save(f"{folder}/result.npz")
ocp_nn.load(f"{folder}/result.npz").predict(x)
assert ocp_nn.certify(problem, result.trajectory).passed()
nlp = ocp_nn.multiple_shooting(problem)
ocp_nn.solve_ipopt(nlp)
ocp_nn.solve_nlp(nlp, "sqpmethod")
ocp_nn.check_derivatives(problem.network)
write_figure(f"{folder}/c.png", convergence_figure(result.history))
write_figure(f"{folder}/l.png", layers_figure(problem.network, result.trajectory))
write_figure(f"{folder}/p.png", predictions_figure([("all", problem.y, result.predict(x))], ["y"]))
try:
    ocp_nn.solve(problem, callback=lambda _: 1 / 0)
except ZeroDivisionError:
    pass
""",
    "the estimator": """
import ocp_nn, sklearn.metrics  # which changes things of its own
before = state()
x = np.linspace(-2, 2, 30)[:, None]
model = ocp_nn.OCPRegressor(hidden_layer_sizes=(4,), random_state=0).fit(x, x.ravel())
model.predict(x), model.score(x, x.ravel())
ocp_nn.OCPRegressor(hidden_layer_sizes=(2,), random_state=0, early_stopping=True, weight_decay=0.1).fit(x, x)
""",
}


@pytest.mark.parametrize("session", SESSIONS.values(), ids=SESSIONS)
def test_nothing_global_is_changed(session, tmp_path):
    if "OCPRegressor" in session:
        pytest.importorskip("sklearn")
    code = STATE + PREPARED + session + "say_what_changed(before)"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "CHANGED {}"
