"""A training that is interrupted after any epoch and resumed ends with the weights of one that ran
through.
"""

import dataclasses
import errno
import json
import os
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from graft.recipes.runs import workspace
from graft.recipes.train.checkpoint import Checkpoint, Checkpoints, epochs_in
from graft.recipes.train.fit import train
from graft.recipes.train.schedule import Phase
from graft.recipes.train.settings import FitSettings
from graft.zoo.errors import ArtifactError, ConfigError, DiskFull, TrainingError
from graft.zoo.files.staging import staged_file
from graft.zoo.graph.stack import backbone_of
from tests.tiny import HEAD, Killed, builder, killed_after, normalization, pictures, plan_of

PHASES = (Phase("head", "head", 2, 0.01), Phase("all", "all", 2, 0.01, batch_norm="train"))
SEEDS = [3, 4]
PLAIN = FitSettings(batch_size=8, augment=("crop",))


@pytest.fixture(scope="module")
def data():
    return {"train": pictures(24), "validation": pictures(9, 1)}


def run(data, folder, settings=PLAIN, seeds=SEEDS, phases=PHASES, store=None):
    plan = plan_of(builder(normalization), HEAD, phases, seeds, settings)
    return train(plan, data, folder=folder, store=store)


def test_early_stopping_is_remembered(data, tmp_path):
    still = dataclasses.replace(PHASES[0], epochs=30, learning_rate=1e-12)
    asked = {"settings": FitSettings(batch_size=8, patience=3), "seeds": [0], "phases": (still,)}
    _, (expected,) = run(data, None, **asked)
    with killed_after(expected.phases[0]["epochs_run"]):
        run(data, tmp_path, **asked)
    _, (got,) = run(data, tmp_path, **asked)
    assert got.phases[0]["epochs_run"] == expected.phases[0]["epochs_run"] < 30
    assert got.phases[0]["best_epoch"] == expected.phases[0]["best_epoch"]


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    state = Checkpoint(
        1,
        2,
        [np.ones(3)],
        [np.arange(2)],
        [np.zeros((1, 2))],
        {"wait": 1},
        [{"loss": 0.5}],
        [{"a": 1}],
    )
    Checkpoints(tmp_path).save(7, state)
    got = Checkpoints(tmp_path).load(7)
    for name, value in vars(state).items():
        np.testing.assert_equal(getattr(got, name), value)
    assert Checkpoints(tmp_path).load(8) is None
    beginning = [np.zeros(3), np.zeros(2), np.zeros(1)]
    ended = {"history": [{"epoch": 1}], "seconds": 2.0}
    Checkpoints(tmp_path).finish(7, ended, [beginning[0], np.ones(2), beginning[2]], beginning)
    assert Checkpoints(tmp_path).load(7) is None
    facts, weights = Checkpoints(tmp_path).finished(7, beginning)
    assert facts == ended
    assert epochs_in(tmp_path) == ended["history"]
    assert [w.tolist() for w in weights] == [[0, 0, 0], [1, 1], [0]]
    assert weights[0] is beginning[0]


def test_what_no_seed_changed_is_held_and_written_once(data, tmp_path):
    """Thirty candidates of one frozen encoder must not be thirty encoders."""

    def heads(folder):
        return run(data, folder, phases=PHASES[:1])[1]

    first, second = heads(tmp_path)
    shared = [a is b for a, b in zip(first.weights, second.weights, strict=True)]
    assert shared.count(False) == 2, "kernel and bias of the head"
    with np.load(tmp_path / "checkpoint" / "training" / "seed-4-done.npz") as file:
        assert len(json.loads(str(file["facts"]))[1]["weights"]) == 2
    for again, before in zip(heads(tmp_path), (first, second), strict=True):
        assert all(map(np.array_equal, again.weights, before.weights))


def test_a_damaged_checkpoint_is_said(tmp_path):
    (tmp_path / "seed-0.npz").write_bytes(b"PK\x03\x04 not much")
    with pytest.raises(
        ArtifactError, match=r"seed-0.npz' cannot be read .*train anew with --overwrite"
    ):
        Checkpoints(tmp_path).load(0)


def test_what_a_killed_process_was_writing_is_swept(tmp_path):
    (tmp_path / ".seed-0.npz.abc").mkdir()
    Checkpoints(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_loss_that_is_not_a_number_stops(data, tmp_path):
    def build():
        model = builder(normalization)()
        model.get_layer("probabilities_dense").kernel.assign(np.full((8, 3), np.nan, np.float32))
        return model

    plan = plan_of(build, HEAD, PHASES, settings=FitSettings(batch_size=8))
    with pytest.raises(
        TrainingError,
        match=r"loss is nan in phase 'head', epoch 1, by step 3, with a peak learning rate of 1.0e-02",
    ):
        train(plan, data, folder=tmp_path)


SETTINGS = {"overwrite": False, "resume": False, "learning_rate": 0.1, "fit": {"views": 4}}


def begin(out, keep=True, error=Killed, fingerprint="f", **options):
    with workspace.workspace(out, SETTINGS | options, fingerprint) as folder:
        if keep:
            checkpoints = Checkpoints(folder / "checkpoint" / "transfer")
            checkpoints.check_origin([])
            checkpoints.save(0, Checkpoint())
        (folder / "run.json").write_text("{}")
        if callable(error) and not isinstance(error, type):
            error(folder)
        elif error is not None:
            raise error


def test_what_an_older_graft_could_not_be_told_was_as_it_did_it(tmp_path):
    out = tmp_path / "run"
    with pytest.raises(Killed):
        begin(out)
    with pytest.raises(ConfigError, match=r"image_fit \('stretch' then, 'crop' now\)"):
        begin(out, resume=True, image_fit="crop")
    begin(out, resume=True, keep=False, error=None, image_fit="stretch", newer=3)


def test_an_interrupted_run_is_kept_and_resumed(tmp_path, capsys):
    out = tmp_path / "run"
    with pytest.raises(Killed):
        begin(out)
    assert "--resume goes on with it" in capsys.readouterr().err
    assert not out.exists()
    with pytest.raises(
        ConfigError,
        match="was begun and interrupted: --resume goes on with it, --overwrite starts anew",
    ):
        begin(out)
    begin(out, resume=True, keep=False, error=None)
    assert [p.name for p in out.iterdir()] == ["run.json"]
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_without_a_checkpoint_nothing_is_left(tmp_path, capsys):
    with pytest.raises(Killed):
        begin(tmp_path / "run", keep=False)
    assert list(tmp_path.iterdir()) == []
    begin(tmp_path / "run", resume=True, error=None)
    assert "no checkpoint: starting from the beginning" in capsys.readouterr().err


def test_a_run_that_cannot_take_its_place_is_kept(tmp_path, monkeypatch):
    def busy(folder, target):
        raise OSError(16, "Device or resource busy", str(target))

    with monkeypatch.context() as patch:
        patch.setattr(workspace, "replace_folder", busy)
        with pytest.raises(OSError, match="busy"):
            begin(tmp_path / "run", error=None)
    assert (tmp_path / ".run.part" / "run.json").exists()
    begin(tmp_path / "run", resume=True, keep=False, error=None)
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["run.json"]


def test_what_a_killed_overwrite_left_does_not_stop_the_next_one(tmp_path):
    begin(tmp_path / "run", error=None)
    (tmp_path / ".run.part.old" / "old").mkdir(parents=True)
    begin(tmp_path / "run", overwrite=True, error=None)
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_the_folder_where_one_stands_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="'.' exists already"):
        begin(Path("."))


def test_overwrite_starts_anew_and_keeps_the_old_one_until_the_end(tmp_path):
    out = tmp_path / "run"
    begin(out, error=None)
    with pytest.raises(ConfigError, match="exists already"):
        begin(out)
    with pytest.raises(Killed):
        begin(out, overwrite=True)
    assert (out / "run.json").exists()
    begin(out, overwrite=True, error=None)
    assert [p.name for p in tmp_path.iterdir()] == ["run"]
    with pytest.raises(ConfigError, match="choose one of them"):
        begin(out, overwrite=True, resume=True)


def test_resume_with_other_settings_names_them(tmp_path):
    out = tmp_path / "run"
    with pytest.raises(Killed):
        begin(out)
    with pytest.raises(
        ConfigError,
        match=r"other settings: learning_rate \(0.1 then, 0.2 now\), views \(4 then, 2 now\)",
    ):
        begin(out, resume=True, learning_rate=0.2, fit={"views": 2})
    with pytest.raises(ConfigError, match="content or splits of the data"):
        begin(out, resume=True, fingerprint="other")


def test_resume_goes_on_where_only_what_changes_nothing_is_another(tmp_path):
    """Where the pass is computed, and options that an older Graft did not know."""
    out = tmp_path / "run"
    with pytest.raises(Killed):
        begin(out)
    settings = {"resume": True, "verify_data": True, "fit": {"views": 4, "ray": "auto", "new": 1}}
    begin(out, error=None, **settings)
    assert (out / "run.json").exists()


def test_a_complete_run_needs_no_resuming(tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    assert not workspace.finished(out, SETTINGS | {"resume": True})
    (out / "run.json").write_text('{"config": {"learning_rate": 0.1}}')
    assert not workspace.finished(out, SETTINGS)
    assert workspace.finished(out, SETTINGS | {"resume": True})
    with pytest.raises(ConfigError, match="learning_rate"):
        workspace.finished(out, SETTINGS | {"resume": True, "learning_rate": 1})


def test_the_disk_filling_up_keeps_what_was_done(tmp_path):
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(ConfigError, match="no space left .*--resume then goes on"):
        begin(tmp_path / "run", error=error)
    assert (tmp_path / ".run.part" / "checkpoint").exists()


@pytest.mark.parametrize(
    ("keep", "told"),
    [
        (True, "free some space; --resume then goes on after the last finished epoch"),
        (False, "no epoch was finished"),
    ],
)
def test_a_file_that_fills_the_disk_is_named_with_what_is_kept(keep, told, tmp_path):
    """The file itself cannot know: it says of itself that nothing was left behind."""
    out = tmp_path / "run"

    def fill(folder):
        with staged_file(folder / "model.keras"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(DiskFull, match=f"while writing '.*model.keras': .*{told}") as found:
        begin(out, keep, error=fill)
    assert "nothing was left behind" not in str(found.value)
    assert _folder(out).exists() == keep


def _folder(out):
    return out.with_name(f".{out.name}.part")


def test_what_is_left_is_said_as_it_is(tmp_path, monkeypatch):
    out = tmp_path / "run"

    def left(match, **options):
        with pytest.raises(KeyboardInterrupt) as ended:
            begin(out, error=KeyboardInterrupt(), **options)
        assert ended.value.__notes__ == [match]

    left(f"no epoch was finished: nothing is left of '{out}'", keep=False)
    left(f"'{out}' is kept as of its last finished epoch: --resume goes on with it")
    left(f"'{out}' is kept as of its last finished epoch: --resume goes on with it", resume=True)
    begin(out, resume=True, error=None)
    left(f"no epoch was finished: '{out}' is as it was", keep=False, overwrite=True)
    resume = "--resume instead of --overwrite goes on with it"
    left(f"'{out}' is kept as of its last finished epoch: {resume}", overwrite=True)

    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(workspace, "_tidy", interrupted)
    with pytest.raises(KeyboardInterrupt) as ended:
        begin(out, overwrite=True, error=None)
    assert ended.value.__notes__ == [f"'{out}' is complete"]
    monkeypatch.undo()
    assert (out / "settings.json").exists()
    assert workspace.finished(out, {"resume": True})
    assert [p.name for p in out.iterdir()] == ["run.json"]


def test_an_interrupted_training_that_was_to_replace_a_run_goes_on(tmp_path):
    out = tmp_path / "run"
    begin(out, error=None)
    (out / "of").write_text("before")
    with pytest.raises(Killed):
        begin(out, overwrite=True)
    with pytest.raises(
        ConfigError,
        match="exists already: .*--resume goes on with the training that was to replace it",
    ):
        begin(out)
    assert not workspace.finished(out, SETTINGS | {"resume": True}), (
        "it is the one before that is complete"
    )
    begin(out, resume=True, keep=False, error=None)
    assert [p.name for p in out.iterdir()] == ["run.json"]
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_what_a_killed_overwrite_left_without_an_epoch_is_swept_by_resume(tmp_path):
    out = tmp_path / "run"
    begin(out, error=None)
    _folder(out).mkdir()
    assert workspace.finished(out, SETTINGS | {"resume": True})
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_a_complete_run_without_a_report_gets_one(tmp_path, monkeypatch, capsys):
    """Graft wrote it after the run took its place, until a kill between the two had left some
    without.
    """
    from graft.recipes.report import report

    out, written = tmp_path / "run", []
    out.mkdir()
    (out / "run.json").write_text('{"recipe": "image-classification", "config": {}}')
    monkeypatch.setattr(report, "write", written.append)
    assert workspace.finished(out, SETTINGS | {"resume": True})
    assert written == [out]
    assert "complete: nothing to resume but its report, which is written now" in " ".join(
        capsys.readouterr().err.split()
    )
    (out / "report.html").touch()
    assert workspace.finished(out, SETTINGS | {"resume": True})
    assert written == [out]


def other_backbone():
    """The same model with another kernel in its stem, as another file of weights under the same
    path gives.
    """
    model = builder(normalization)()
    model.layers[2].kernel.assign(model.layers[2].kernel * -1.0)
    return model


def test_a_backbone_that_changed_meanwhile_is_refused(data, tmp_path, monkeypatch, capsys):
    frozen = PHASES[:1]
    with killed_after(1):
        run(data, tmp_path, phases=frozen)
    with pytest.raises(
        ConfigError, match="the weights of the backbone are not those that this training began with"
    ):
        train(plan_of(other_backbone, HEAD, frozen, SEEDS, PLAIN), data, folder=tmp_path)
    capsys.readouterr()
    known = metadata.version
    monkeypatch.setattr(
        "graft.recipes.train.checkpoint.metadata.version",
        lambda name: "0.1" if name == "graft-zoo" else known(name),
    )
    run(data, tmp_path, phases=frozen)
    told = " ".join(capsys.readouterr().err.split())
    assert (
        f"begun with other versions: graft-zoo ({known('graft-zoo')} then, 0.1 now): its result "
        "may differ" in told
    )


def begun_by(content, folder):
    """A folder of checkpoints whose origin.json is `content`; None: without one."""
    kept = Checkpoints(folder)
    kept.check_origin([])
    kept.save(0, Checkpoint())
    origin = folder / "origin.json"
    if content is None:
        origin.unlink()
    elif isinstance(content, dict):
        origin.write_text(json.dumps(json.loads(origin.read_text()) | content))
    else:
        origin.write_text(content)
    return kept


OLDER = {"format": 1}
ORIGINS = [
    (
        None,
        r"begun by an older Graft \(checkpoints of format 1, this one goes on with 3\): train anew with --overwrite",
    ),
    (
        '{"backbone": "1f", "versions": {"keras": "3"}}',
        "begun by an older Graft .*: train anew with --overwrite",
    ),
    (OLDER, "begun by an older Graft .*: train anew with --overwrite"),
    (
        {"format": 4},
        r"begun by a newer Graft \(checkpoints of format 4, .*: update graft-zoo, or train anew with",
    ),
    ({"format": "3"}, "origin.json' is damaged: train anew with --overwrite"),
    ({"format": True}, "origin.json' is damaged: train anew with --overwrite"),
    ({"versions": 3}, "origin.json' is damaged: train anew with --overwrite"),
    ('{"format": 3}', "origin.json' is damaged: train anew with --overwrite"),
    ("[", "origin.json' is damaged .*: train anew with --overwrite"),
]


@pytest.mark.parametrize(("content", "told"), ORIGINS)
def test_checkpoints_of_another_graft_are_refused(content, told, tmp_path):
    """Before, their fields were a traceback, and a missing origin.json a warning."""
    kept = begun_by(content, tmp_path / "of it")
    with pytest.raises(ArtifactError, match=told) as found:
        kept.check_origin([])
    assert found.value.exit_code == 2


@pytest.mark.parametrize("part", ["transfer", "supervised_only", "shape alone"])
@pytest.mark.parametrize(("content", "told"), ORIGINS[:4])
def test_a_run_of_another_graft_is_refused_before_anything_is_done(
    content, told, part, tmp_path, capsys
):
    """Before, that other settings or data were given was said of what another Graft had only
    written otherwise; and afterwards that --resume goes on.
    """
    out = tmp_path / "run"
    with pytest.raises(Killed):
        begin(out)
    begun_by(content, _folder(out) / "checkpoint" / part)
    capsys.readouterr()
    with pytest.raises(ArtifactError, match=told):
        begin(out, resume=True, fingerprint="other", keep=False, error=None)
    assert capsys.readouterr().err == ""
    assert (_folder(out) / "checkpoint" / part / "seed-0.npz").exists(), "nothing is lost"
    begin(out, overwrite=True, error=None)
    assert (out / "run.json").exists()


@pytest.mark.parametrize(
    ("content", "goes"), [(None, True), (OLDER, True), ({"format": 3}, False), ({}, False)]
)
def test_a_cell_of_a_grid_that_an_older_graft_began_is_trained_anew(
    content, goes, tmp_path, capsys
):
    """Nobody can give --overwrite to one cell, and to the grid it would cost all others."""
    out = tmp_path / "run"
    with pytest.raises(Killed):
        begin(out)
    begun_by(content, _folder(out) / "checkpoint" / "transfer")
    capsys.readouterr()
    workspace.drop_older(out)
    assert _folder(out).exists() == (not goes)
    assert (
        "begun by an older Graft and interrupted: it is trained anew"
        in " ".join(capsys.readouterr().err.split())
    ) == goes


def test_a_finished_seed_that_lacks_something_is_damaged(data, tmp_path):
    """As an older Graft left it; before, a traceback."""
    checkpoints = Checkpoints(tmp_path / "checkpoint" / "training")
    model = builder(normalization)()
    checkpoints.check_origin(backbone_of(model).get_weights())
    weights = model.get_weights()
    checkpoints.finish(3, {"history": [], "phases": [], "seconds": 1.0}, weights, weights)
    with pytest.raises(
        ArtifactError, match=r"seed-3-done.npz' is damaged .*: train anew with --overwrite"
    ):
        run(data, tmp_path)


def test_what_a_training_began_with_is_noted_compared_and_missed(tmp_path, capsys):
    kept = Checkpoints(tmp_path / "a")
    weights = [np.arange(6.0).reshape(2, 3), np.zeros(3)]
    kept.check_origin(weights)
    kept.check_origin([w + 1 for w in weights])  # nothing is trained yet
    kept.save(0, Checkpoint())
    kept.check_origin([w + 1 for w in weights])
    assert capsys.readouterr().err == ""
    for changed in (weights, [w.T + 1 for w in weights], weights[:1]):
        with pytest.raises(ConfigError, match="or train anew with --overwrite"):
            kept.check_origin(changed)
    (tmp_path / "a" / "origin.json").write_text("[]")
    with pytest.raises(ArtifactError, match=r"origin.json' is damaged"):
        kept.check_origin(weights)
    Checkpoints(None).check_origin(weights)
