"""From a record to a controller, in small: it follows the reference, and never leaves the bounds."""

from __future__ import annotations

import importlib
from pathlib import Path


def test_the_loop_is_closed_on_tanks_that_the_controller_does_not_know(monkeypatch, capsys, tmp_path):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "scripts"))
    script = importlib.import_module("mpc_tanks")
    loop = script.main(["--quick", "--figure", str(tmp_path / "loop.png")])
    assert loop.violation == 0.0
    assert loop.voltage.min() >= script.LOWEST and loop.voltage.max() <= script.HIGHEST
    assert loop.error < 0.7 * script.open_loop(len(loop.level))
    assert "largest violation of a bound: 0.0e+00 V" in capsys.readouterr().out
    assert (tmp_path / "loop.png").stat().st_size > 5000
