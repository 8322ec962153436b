"""The exit code of the demonstrations: what the verdict of the run says, and nothing of its own."""

import pytest

from graft.recipes.commands import demo, export
from graft.recipes.report import run_file
from graft.recipes.tasks import verdicts

SECONDS = ([1.0, 1.0, 1.0], [2.0, 2.0, 2.0])


def verdict(transfer, scratch):
    return {"verdict": verdicts.verdict(transfer, scratch, SECONDS), "adaptation": None}


def adaptation(adapted, plain, kept="cdan"):
    found = {"cdan": verdicts.adapting("cdan", "source_only", adapted, plain)}
    return {"verdict": None, "adaptation": {"verdicts": found, "chosen": {"method": kept}}}


@pytest.mark.parametrize(
    ("facts", "options", "passed", "code"),
    [
        (verdict([0.90, 0.91, 0.92], [0.60, 0.62, 0.61]), [], True, 0),
        (verdict([0.90, 0.91, 0.92], [0.60, 0.62, 0.61]), [], False, 1),
        # Every seed gained something, which chance does too.
        (verdict([0.80, 0.90, 0.85], [0.799, 0.80, 0.60]), [], True, 1),
        # One of many seeds lost a little, and the verdict is clear.
        (
            adaptation(
                [0.80, 0.81, 0.82, 0.83, 0.70, 0.81, 0.82, 0.80],
                [0.7, 0.7, 0.7, 0.7, 0.701, 0.7, 0.7, 0.7],
            ),
            ["--adapt"],
            True,
            0,
        ),
        (adaptation([0.8], [0.7]), ["--adapt"], True, 1),  # one seed decides nothing
        (adaptation([0.8, 0.8, 0.81], [0.5, 0.51, 0.5], kept="source_only"), ["--adapt"], True, 1),
    ],
)
def test_a_demonstration_is_judged_by_its_own_verdict(
    tmp_path, monkeypatch, facts, options, passed, code
):
    for shown in ("_digits", "_glyphs"):
        monkeypatch.setattr(demo, shown, lambda *_: None)
    monkeypatch.setattr(export, "export", lambda _: {"files": [{"passed": passed}]})
    monkeypatch.setattr(run_file, "read_run", lambda _: facts)
    assert demo.command([*options, "--out", str(tmp_path / "run")]) == code
