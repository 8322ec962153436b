"""What a grid says before it starts and when it is done."""

import pytest

from graft.recipes.grid.outlook import next_command, outlook

ROW = {"process_seconds": 200.0, "train_seconds": 180.0}


@pytest.mark.parametrize(
    ("left", "budget", "finished", "workers", "text"),
    [
        (12, None, [], 1, "12 cells: 12 to go, how long they take is unknown until the first one"),
        (12, 180.0, [], 1, "12 cells: 12 to go, 36 min of training and what each process takes"),
        (12, 180.0, [], 4, "12 cells: 12 to go, 9 min of training"),
        (9, 180.0, [ROW], 1, "12 cells, 3 of 12 cells are finished already: 9 to go, about 30 min"),
        (9, None, [ROW, {**ROW, "process_seconds": 100.0}], 1, "9 to go, about 22 min"),
        (9, None, [{"process_seconds": None}], 1, "9 to go, how long they take is unknown"),
        (0, 180.0, [ROW], 1, "12 of 12 cells are finished already: 0 to go"),
    ],
)
def test_before_it_starts(left, budget, finished, workers, text):
    assert text in outlook(12, left, budget, finished, workers)


def row(cell, validation, files_of=None):
    return {"cell": cell, "status": "done", "validation": validation, "files_of": files_of}


@pytest.fixture
def figures(monkeypatch):
    from graft.recipes.grid import rows

    monkeypatch.setattr(rows, "has_figures", lambda row: row["validation"] is not None)


def test_the_best_cell_is_what_comes_next(figures, tmp_path):
    found = [row("a", 0.7), row("b", 0.9), row("c", None)]
    assert next_command(tmp_path, found) == ["graft", "export", str(tmp_path / "b")]


def test_a_file_that_passed_is_tried(figures, tmp_path, monkeypatch):
    from graft.recipes.grid import outlook as module

    files = [{"path": "model.onnx", "status": "fail"}, {"path": "model.tflite", "status": "pass"}]
    monkeypatch.setattr(module, "read_manifest", lambda folder: {"files": files})
    found = [row("a", 0.7, "a"), row("b", 0.9, "a")]
    file = str(tmp_path / "a" / "export" / "model.tflite")
    assert next_command(tmp_path, found) == ["graft", "predict", file, "INPUT"]
