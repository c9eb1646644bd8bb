"""The suite of posteriors runs in small on a folder of ours, and its table says what was measured."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn")

SCRIPTS = str(Path(__file__).parents[1] / "scripts")


def write_set(folder, x, y):
    folder.mkdir()
    np.savetxt(folder / "data.txt", np.hstack([x, y]))
    (folder / "index_features.txt").write_text("0\n1\n")
    (folder / "index_target.txt").write_text("2\n")


def test_a_set_in_small(tmp_path, capsys):
    sys.path.insert(0, SCRIPTS)
    try:
        import posterior_suite
    finally:
        sys.path.remove(SCRIPTS)
    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 2, (120, 2))
    y = np.sin(2 * x[:, :1]) + x[:, 1:] + 0.1 * rng.standard_normal((120, 1))
    write_set(tmp_path / "small", x, y)
    markdown = tmp_path / "table.md"
    arguments = ["--data", str(tmp_path), "--sets", "small", "--splits", "2", "--hidden", "5"]
    arguments += ["--rules", "evidence", "held-out", "scikit-learn"]
    results = posterior_suite.main([*arguments, "--markdown", str(markdown)])
    assert [len(results["small", rule]) for rule in ("evidence", "held-out")] == [2, 2]
    peer = results.pop(("small", "scikit-learn"))
    assert len(peer) == 2 and all(0.05 < row["rmse"] < 0.3 for row in peer)
    for row in (row for rows in results.values() for row in rows):
        assert 0.05 < row["rmse"] < 0.3 and 0.5 < row["coverage"] <= 1.0 and 0 < row["gamma"] < 21
    assert "| small | evidence | 2 |" in markdown.read_text()
    assert "nan" not in markdown.read_text()


def test_a_fit_without_a_posterior_is_a_line(tmp_path, capsys, monkeypatch):
    sys.path.insert(0, SCRIPTS)
    try:
        import posterior_suite
    finally:
        sys.path.remove(SCRIPTS)

    def refuse(*_):
        raise ValueError("no minimum")

    monkeypatch.setattr(posterior_suite, "measure", refuse)
    found = posterior_suite.main(["--data", str(tmp_path), "--sets", "x", "--splits", "1"])
    assert found == {("x", rule): [] for rule in ("auto", "evidence", "held-out")}
    assert "x, held-out, split 0: no minimum" in capsys.readouterr().out


def test_the_same_numbers_as_laplace_torch(tmp_path, capsys):
    pytest.importorskip("laplace")
    sys.path.insert(0, SCRIPTS)
    try:
        import posterior_peers
    finally:
        sys.path.remove(SCRIPTS)
    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 2, (120, 2))
    write_set(tmp_path / "small", x, np.sin(2 * x[:, :1]) + 0.1 * rng.standard_normal((120, 1)))
    found = posterior_peers.measure(tmp_path / "small", 5)
    assert found["std"] < 1e-9 and found["evidence"] < 1e-9
