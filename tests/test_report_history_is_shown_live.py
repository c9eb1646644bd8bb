"""``LiveHistory``: a table updated in place on a terminal, plain and sparser lines elsewhere."""

from __future__ import annotations

import io
import re

import pytest

from ocp_nn.problem.record import Record
from ocp_nn.report import LiveHistory, history_header, history_row


def record(iteration: int, phase: str = "augmented Lagrangian") -> Record:
    return Record(
        iteration=iteration, phase=phase, objective=100.0 / iteration, rollout_objective=None, max_defect=1e-3,
        stationarity=0.5, penalty=10.0, steps=5 * iteration, seconds=0.1 * iteration,
    )  # fmt: skip


def shown(records, **options) -> str:
    stream = io.StringIO()
    with LiveHistory(stream, **options) as live:
        for entry in records:
            assert live(entry) is None  # does not stop the solve
    return stream.getvalue()


def test_a_pipe_gets_plain_lines():
    records = [record(1), record(2), record(3, "second order")]
    assert shown(records).splitlines() == [history_header(), *map(history_row, records)]


def test_long_histories_get_sparser_and_end_at_the_end():
    lines = shown([record(i) for i in range(1, 1043)]).splitlines()[1:]
    expected = [*range(1, 21), *range(30, 201, 10), *range(300, 1001, 100), 1042]
    assert [int(line.split()[0]) for line in lines] == expected


def test_the_last_line_of_a_phase_is_there():
    records = [record(i) for i in range(1, 34)] + [record(i, "second order") for i in range(33, 48)]
    lines = [line.split() for line in shown(records).splitlines()[21:]]
    assert [(int(words[0]), words[-1]) for words in lines] == [(30, "AL"), (33, "AL"), (40, "Newton"), (47, "Newton")]


def test_an_empty_history_is_a_header():
    assert shown([]).splitlines() == [history_header()]


def rows_on_terminal(text: str) -> list[str]:
    """What stays on the screen: without control sequences, after the last redraw."""
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    lines = [line.rstrip() for line in plain.replace("\r", "\n").splitlines() if line.strip()]
    start = max(i for i, line in enumerate(lines) if line.split()[:2] == ["outer", "objective"])
    return lines[start + 1 :]


@pytest.mark.parametrize(("width", "color"), [(80, True), (120, True), (80, False)])
def test_a_terminal_gets_the_last_rows_in_place(width, color, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if not color:
        monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes a StringIO for a terminal
    text = shown([record(i, "second order") for i in range(1, 26)])
    rows = rows_on_terminal(text)
    assert [int(row.split()[0]) for row in rows] == list(range(16, 26))
    assert all(row.split()[-1] == "Newton" and len(row) <= width for row in rows)
    assert "\x1b[" in text  # redrawn in place
    assert bool(re.search(r"\x1b\[[0-9;]*3[0-9]m", text)) is color


def test_a_dumb_terminal_gets_lines(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    assert "\x1b" not in shown([record(1)])


def test_an_exception_passes_through_and_leaves_the_terminal_alone():
    stream = io.StringIO()
    with pytest.raises(RuntimeError, match="inside"), LiveHistory(stream, terminal=True) as live:
        live(record(1))
        raise RuntimeError("inside")
    assert stream.getvalue().count("\x1b[?25l") == stream.getvalue().count("\x1b[?25h")  # the cursor is shown again
