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


def test_a_note_is_a_line_and_says_how_far_it_is(clock, capsys):
    with terminal.progress("search", 4) as advance:
        for note in (None, "best 0.9", None, None):
            clock[0] += 20
            advance(note=note)
    assert capsys.readouterr().err.splitlines() == ["search: best 0.9 (2 of 4, about 40 s left)"]


def test_notes_do_not_hide_how_long_the_rest_takes(clock, capsys):
    """Epochs of 20 s, each with its note."""
    with terminal.progress("head", 60) as advance:
        for epoch in range(1, 7):
            clock[0] += 20
            advance(10)
            advance(0, f"epoch {epoch}")
    assert capsys.readouterr().err.splitlines() == [
        "head: epoch 1",
        "head: 20 of 60, about 80 s left",
        "head: epoch 2",
        "head: epoch 3",
        "head: 40 of 60, about 40 s left",
        "head: epoch 4",
        "head: epoch 5",
        "head: epoch 6",
    ]


def test_the_next_command_can_be_copied(capsys):
    terminal.say_next("graft", "export", "runs/my photos")
    assert capsys.readouterr().err == "next: graft export 'runs/my photos'\n"


@pytest.mark.parametrize(
    ("seconds", "text"), [(1.2, "1 s"), (89, "89 s"), (150, "2 min"), (7500, "2 h 05 min")]
)
def test_time_left(seconds, text):
    assert terminal.time_shown(seconds) == text
