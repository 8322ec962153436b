"""Progress where nobody looks at a terminal: a log says how far it is, not too often."""

import pytest

from graft.zoo import terminal


@pytest.fixture
def clock(monkeypatch):
    """A clock that moves when it is told to."""
    now = [0.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    return now


def test_a_log_has_a_line_every_half_minute(clock, capsys):
    with terminal.progress("decode train", 10_000) as advance:
        for _ in range(100):
            clock[0] += 1
            advance(50)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "decode train: 1,500 of 10,000, about 3 min left",
        "decode train: 3,000 of 10,000, about 2 min left",
        "decode train: 4,500 of 10,000, about 2 min left",
    ]


def test_a_note_is_a_line_and_spares_the_next_one(clock, capsys):
    with terminal.progress("search", 4) as advance:
        for note in (None, "best 0.9", None, None):
            clock[0] += 20
            advance(note=note)
    assert capsys.readouterr().err.splitlines() == ["search: best 0.9"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(1.2, "1 s"), (89, "89 s"), (150, "2 min"), (7500, "2 h 05 min")]
)
def test_time_left(seconds, text):
    assert terminal._time_left(seconds) == text
