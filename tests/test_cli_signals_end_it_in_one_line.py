"""Ctrl-C and SIGTERM end the program with one line and their exit code, from its first import on; not a library.

In place of a package that takes long to import there is one that never ends, so that no test depends on time.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import ocp_nn

pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX signals")

ENDLESS = """
import time
print("importing", flush=True)
while True:
    try:
        time.sleep(0.1)  # not longer: a signal just before a sleep is answered after it
    except BaseException:  # as packages do that try to import others
        pass
"""

HANDLERS = """
import os, signal
names = {signal.default_int_handler: "Python's", signal.SIG_IGN: "ignored", signal.SIG_DFL: "default"}
print(*[names.get(signal.getsignal(number), "ours") for number in (signal.SIGINT, signal.SIGTERM)], flush=True)
os._exit(0)
"""

SCRIPT = "import sys\nfrom ocp_nn.cli import main\nsys.exit(main())\n"  # what pip makes of an entry point


@pytest.fixture
def program(tmp_path, request):
    """The two ways to start it."""
    (tmp_path / "ocp-nn").write_text(SCRIPT)
    return {"module": ["-m", "ocp_nn"], "script": [str(tmp_path / "ocp-nn")]}[request.param]


both = pytest.mark.parametrize("program", ["module", "script"], indirect=True)


def start(arguments, folder, casadi="", **options):
    """Python with a module in place of CasADi."""
    environment = dict(os.environ)
    if casadi:
        (folder / "casadi.py").write_text(casadi)
        environment["PYTHONPATH"] = os.pathsep.join([str(folder), environment.get("PYTHONPATH", "")])
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, *arguments], env=environment, **pipes, **options)


def wait_for(process, beginning):
    for line in process.stdout:
        if line.startswith(beginning):
            return
    raise AssertionError(process.communicate())


def end(process, number):
    os.kill(process.pid, number)
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors


@both
def test_ctrl_c_while_packages_are_imported(program, tmp_path):
    process = start([*program, "fit", "sin2x"], tmp_path, ENDLESS)
    wait_for(process, "importing")
    assert end(process, signal.SIGINT) == (130, "ocp-nn: interrupted\n")


def test_it_listens_before_anything_slow_is_imported():
    """Without site-packages, which may have imported anything; that NumPy is not found then comes later."""
    command = [sys.executable, "-S", "-X", "importtime", "-m", "ocp_nn"]
    folder = Path(ocp_nn.__file__).parents[1]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    imported = [line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")]
    before = imported[: imported.index("ocp_nn.base.program")]
    assert not {"typing", "pathlib", "urllib.parse", "numpy", "casadi"} & set(before)


@both
def test_a_job_in_the_background_goes_on_ignoring_ctrl_c(program, tmp_path):
    ignore = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)}
    output, _ = start([*program, "doctor"], tmp_path, HANDLERS, **ignore).communicate(timeout=60)
    assert output == "ignored default\n"


@pytest.mark.parametrize("code", ["import ocp_nn", "import ocp_nn.cli", "import sys; sys.argv[0] = ''; import ocp_nn"])
def test_an_import_as_a_library_leaves_signals_alone(code, tmp_path):
    output, errors = start(["-c", code], tmp_path, HANDLERS).communicate(timeout=60)
    assert output == "Python's default\n", errors


def test_main_called_from_python_leaves_signals_alone():
    code = (
        "import signal\nhandlers = lambda: [signal.getsignal(n) for n in signal.valid_signals()]\nbefore = handlers()\n"
        "from ocp_nn.cli import main\nassert main(['datasets']) == 0 and handlers() == before"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


# A fit that takes far longer than a signal takes to arrive.
FIT = ["fit", "friedman", "--hidden", "30,30", "--weight-decay", "0.001", "--reference", "none", "--checkpoint", "1e-9"]


@pytest.mark.parametrize(
    ("program", "number", "code"),
    [("script", signal.SIGINT, 130), ("module", signal.SIGTERM, 143)],
    indirect=["program"],
)
def test_in_the_middle_of_a_fit_everything_is_written(program, number, code, tmp_path):
    out = tmp_path / "out"
    process = start([*program, *FIT, "--out", str(out)], tmp_path)
    wait_for(process, "outer ")  # the table has begun: the solve is under way
    wait_for(process, "    3")
    assert end(process, number) == (code, "")
    assert json.loads((out / "summary.json").read_text())["status"] == "interrupted"
    assert not ocp_nn.load(out / "checkpoint.npz").success
    assert {path.name for path in out.iterdir()} == {
        "run.json", "summary.json", "history.csv", "model.npz", "checkpoint.npz",
        "convergence.png", "predictions.png", "layers.png",
    }  # fmt: skip


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_while_ipopt_checks_the_answer_the_answer_is_there(number, code, tmp_path):
    arguments = ["fit", "friedman", "--hidden", "30,30", "--weight-decay", "1", "--time-limit", "1e3", "--out", "out"]
    process = start(["-m", "ocp_nn", *arguments], tmp_path, cwd=tmp_path)
    wait_for(process, "IPOPT: ")
    assert end(process, number) == (code, "ocp-nn: interrupted\n")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"run.json", "checkpoint.npz"}
    assert ocp_nn.load(tmp_path / "out" / "checkpoint.npz").history
