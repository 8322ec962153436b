"""Labels, names of files and texts are shown, never obeyed: on the terminal, in tables, in
Markdown.
"""

import csv
import io
import sys

import pytest

from graft.recipes.grid.ledger import read_rows
from graft.recipes.report.report_training import read_history
from graft.recipes.runs.prediction.outputs import cells_of, table
from graft.recipes.tasks.table import tasks_for
from graft.recipes.train.schedule import table as schedule_table
from graft.zoo import terminal as progress
from graft.zoo.errors import ArtifactError
from graft.zoo.files.writing import write_csv
from graft.zoo.heads import heads
from graft.zoo.shown import csv_cell, csv_text, markdown, markdown_code, one_line, shown

NASTY = "[red]\x1b[2J\x9bm\tx\ny\u202e\u2028\udcff"
SHOWN = r"[red]\x1b[2J\x9bm\tx\ny\u202e\u2028\udcff"


def test_what_cannot_be_seen_is_shown():
    assert shown(NASTY) == SHOWN
    assert shown(SHOWN) == SHOWN, "what was shown stays as it is"
    assert shown("crêpe 日本 👩‍🍳 a\\b") == "crêpe 日本 👩‍🍳 a\\b"


def test_an_error_is_one_line():
    text = str(ArtifactError("'a\nb\x1b[31m' is damaged:\n  no\tway\x07"))
    assert text == r"'a\nb\x1b[31m' is damaged: no way\x07"
    assert one_line("two\nlines") == "two lines"


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "+cmd|' /C calc'!A0",
        "-2+3",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        "\n=1",
        "\uff1d1",
        "'=1",
        "''=1",
    ],
)
def test_a_spreadsheet_computes_no_cell(text):
    assert csv_cell(text) == f"'{text}"
    assert csv_text(csv_cell(text)) == text


@pytest.mark.parametrize("value", ["-1", "+2.5e3", "-inf", "a=b", "'x", "", -1.5, None, 7])
def test_numbers_and_other_cells_stay(value):
    assert csv_cell(value) == value
    if isinstance(value, str):
        assert csv_text(csv_cell(value)) == value


def test_tables_that_are_read_again_say_the_same(tmp_path):
    write_csv(tmp_path / "history.csv", [{"phase": "=evil()", "loss": -1.5, "=x_loss": 2.0}])
    assert (tmp_path / "history.csv").read_text().splitlines() == [
        "phase,loss,'=x_loss",
        "'=evil(),-1.5,2.0",
    ]
    assert read_history(tmp_path / "history.csv") == {
        "phase": ["=evil()"],
        "loss": [-1.5],
        "=x_loss": [2.0],
    }
    row = {
        "cell": "@cell",
        "backbone": "-b@c",
        "schedule": "full",
        "status": "done",
        "cause": "",
        "test": -0.5,
    }
    write_csv(tmp_path / "bench.csv", [row])
    assert read_rows(tmp_path / "bench.csv") == [row | {"cause": None}]


def test_predictions_in_a_table_are_no_formulas(tmp_path):
    answer = {"input": "=1.png", "label": "@evil", "probability": 1.0, "scores": {"@evil": 1.0}}
    tasks = tasks_for(heads.single_label(["@evil", "good"]))
    with table(tmp_path / "a.csv", tasks, False) as write:
        write(answer)
    with (tmp_path / "a.csv").open(newline="") as file:
        assert next(iter(csv.DictReader(file))) == {
            "input": "'=1.png",
            "label": "'@evil",
            "probability": "1.0",
            "score_@evil": "1.0",
        }


def test_markdown_neither_formats_nor_links():
    text = markdown(
        "[a](javascript:x) `b` *c* | <d> \\ &e https://evil.example www.evil.example ![f](g)\n# h "
        "\x1b"
    )
    for piece in ("[a]", " `b`", "*c*", "|", "<", "https://", "www.", "\n", "\x1b"):
        assert piece not in text.replace("\\" + piece[:1], "") or piece in ("|",)
    assert r"\[a\](javascript:x)" in text
    assert "&lt;d&gt;" in text
    assert markdown_code("a`b|c\nd") == "a'b\u00a6c d"
    assert markdown("crêpe_1, 90 % (80 to 95)") == "crêpe_1, 90 % (80 to 95)"


def test_messages_are_neither_markup_nor_commands(capsys):
    progress.say(f"resuming '{NASTY}'")
    progress.warn(f"'[/nothing]{NASTY}'")
    with progress.progress(f"[bold]{NASTY}", 1) as advance:
        advance(note=f"[/]{NASTY}")
    assert capsys.readouterr().err.splitlines() == [
        rf"resuming '{SHOWN}'",
        rf"warning: '[/nothing]{SHOWN}'",
        rf"[bold]{SHOWN}: [/]{SHOWN}",
    ]


def test_tables_are_neither_markup_nor_commands(capsys):
    row = {
        "name": f"[/x]{NASTY}",
        "blocks": 0,
        "total_blocks": 3,
        "trainable_parameters": 1,
        "total_parameters": 2,
        "epochs": 1,
        "learning_rate": 0.1,
        "batch_norm": "inference",
    }
    progress.say(schedule_table(f"[/t]{NASTY}", [row]))
    drawn = capsys.readouterr().err
    assert "\x1b" not in drawn
    assert "[/x]" in drawn


def test_a_line_of_results_has_the_cells_that_it_says(capsys):
    answer = {"input": "a\tb\n.png", "labels": ["x\ty"], "scores": {"x\ty": 0.5}}
    progress.tell_row(*cells_of(answer, tasks_for(heads.multi_label(["x\ty"])), 3))
    assert capsys.readouterr().out == "a\\tb\\n.png\tx\\ty\tx\\ty 0.500\n"


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_json_is_json_in_any_encoding(encoding, monkeypatch):
    import json

    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    text = progress.json_shown({"é\x9b": NASTY})
    text.encode(encoding)
    assert json.loads(text) == {"é\x9b": NASTY}
    assert not {"\x1b", "\x9b", "\u202e", "\u2028"} & set(text)
