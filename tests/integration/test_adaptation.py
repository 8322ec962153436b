"""Adaptation through the real command line: what is kept is the task's model alone, and bad
requests are one line.
"""

import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from graft.recipes.train.checkpoint import Checkpoints
from graft.zoo.backbones.keras_file import load_keras_model
from tests.integration.conftest import exit_code

SMALL = (
    "--backbone",
    "mobilenet_v2_0.35",
    "--weights",
    "bundled",
    "--image-size",
    32,
    "--batch-size",
    8,
    "--epochs",
    4,
)


@pytest.fixture(scope="session")
def dark_photos(photo_folder, made_once) -> Path:
    """The same kind of pictures at night, every third one for testing, in class folders whose names
    no training sees.
    """

    def make(folder: Path) -> None:
        for i, path in enumerate(sorted(photo_folder.rglob("*.png"))):
            target = folder / ("test" if i % 3 == 0 else "train") / path.relative_to(photo_folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.uint8(np.asarray(Image.open(path).convert("RGB")) // 3)).save(target)

    return made_once("photos at night", make)


@pytest.fixture
def adapt(call, photo_folder, tiny_keras, tmp_path):
    """`graft train domain-adaptation` on small pictures: (exit code, stdout, lines of stderr, run
    directory).
    """

    def run(target, *options, data=photo_folder):
        out = tmp_path / "shelf" / "run"
        out.parent.mkdir(exist_ok=True)
        code, said, lines = call(
            "train",
            "domain-adaptation",
            "--data",
            data,
            "--target",
            target,
            "--out",
            out,
            "--backbone",
            tiny_keras,
            "--batch-size",
            8,
            "--epochs",
            4,
            *options,
        )
        return code, said, lines, out

    return run


@pytest.mark.usefixtures("quick_probe")
def test_pictures_from_end_to_end(adapt, call, dark_photos, photo_folder, tmp_path, kept_of):
    methods = ("cdan", "adabn")
    code, said, _, out = adapt(
        dark_photos, "--methods", *methods, "--target-labels", "--seeds", 2, "--tensorboard"
    )
    assert code == 0
    assert {path.name for path in (out / "tensorboard").iterdir()} == {"source_only", "cdan"}
    facts = json.loads((out / "run.json").read_text())
    kept = kept_of(out)
    assert kept["rule"] == "last"
    chosen = facts["adaptation"]["chosen"]["method"]
    assert kept.get("adapted") == (chosen if chosen == "adabn" else None)
    rows = facts["adaptation"]["rows"]
    assert [(row["method"], row["seed"]) for row in rows] == [
        (method, seed) for method in ("source_only", *methods) for seed in (0, 1)
    ]
    assert set(facts["adaptation"]["verdicts"]) == set(methods)
    target = facts["data"]["target"]
    assert target == {
        "source": str(dark_photos),
        "unlabelled": len(list((dark_photos / "train").rglob("*.png"))),
        "measured": len(list((dark_photos / "test").rglob("*.png"))),
        "measured_are_unlabelled": False,
        "skipped": [],
        "found": target["unlabelled"],
        "used": target["unlabelled"],
        "left_out": [],
    }
    chosen = facts["adaptation"]["chosen"]
    best = {
        m: np.mean([r["information"] for r in rows if r["method"] == m])
        for m in ("source_only", *methods)
    }
    assert chosen["method"] == max(best, key=best.get)
    assert f"kept: {chosen['method']}, seed {chosen['seed']}" in said
    # What the table says of the kept model is what its file gives.
    code, said, _ = call("evaluate", out, "--data", dark_photos, "--json")
    kept = next(
        row for row in rows if (row["method"], row["seed"]) == (chosen["method"], chosen["seed"])
    )
    assert json.loads(said)["accuracy"] == pytest.approx(kept["accuracy"])
    page = (out / "report.html").read_text()
    for text in (
        "Target accuracy",
        "Gains and losses label by label",
        "Where the examples lie",
        "adabn",
        "cdan",
    ):
        assert text in page
    assert "NaN" not in re.sub(r"base64,[\w+/=]+", "", page)
    with np.load(
        out / "examples.npz"
    ) as kept:  # int8 is calibrated with pictures of the kind that it will see
        assert all(name.startswith("train/") for name in kept["calibration_names"])
        assert kept["calibration_images"].mean() < 0.6 * kept["parity_images"].mean()
    kept_phase = facts["schedule"]["phases"][-1]
    assert kept_phase["best_epoch"] == kept_phase["epochs_run"], (
        "no validation data say which is best there"
    )
    _holds_the_task_alone(out, call)


def _holds_the_task_alone(out: Path, call) -> None:
    """In a fresh process, in safe mode, and in the exported files."""
    code = (
        "import keras, sys; model = keras.saving.load_model(sys.argv[1], compile=False, "
        "safe_mode=True); "
        "print([type(l).__name__ for l in model.layers if type(l).__module__.startswith('graft')], "
        "[o.shape[-1] for o in model.outputs], model.count_params())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(out / "model.keras")],
        capture_output=True,
        text=True,
        check=True,
    )
    facts = json.loads((out / "run.json").read_text())
    assert done.stdout.split("\n")[0] == f"[] [3] {facts['backbone']['parameters']}"
    code, _, _ = call("export", out, "--formats", "tflite", "onnx")
    assert code == 0
    files = json.loads((out / "export" / "manifest.json").read_text())["files"]
    assert all(file["passed"] for file in files)
    for file in files:
        dense = [
            name
            for name in file["operators"]
            if name.upper() in ("FULLY_CONNECTED", "GEMM", "MATMUL")
        ]
        assert sum(file["operators"][name] for name in dense) == 1, "one dense layer: the head's"


def test_without_labels_nothing_is_claimed(adapt, dark_photos, tmp_path):
    flat = tmp_path / "flat"
    flat.mkdir()
    for i, path in enumerate(sorted(dark_photos.rglob("*.png"))):
        shutil.copy(path, flat / f"{i}.png")
    code, said, _, out = adapt(flat, "--methods", "coral", "--select", "labelled")
    assert code == 0
    facts = json.loads((out / "run.json").read_text())["adaptation"]
    assert facts["verdicts"] == {}
    assert facts["oracle"] is None
    assert all(row["accuracy"] is None for row in facts["rows"])
    assert "Target accuracy" not in (out / "report.html").read_text()
    if facts["chosen"]["method"] != "source_only":
        assert "whether it gained anything is not known" in said


def test_texts_from_end_to_end(call, tmp_path, kept_of):
    from graft.recipes.data.builtin import commands

    table = tmp_path / "unlabelled.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("text",))
        writer.writerows(
            (f"please {s.text}",) for split in commands.load().values() for s in split[:60]
        )
    out = tmp_path / "run"
    code, said, _ = call(
        "train",
        "text-domain-adaptation",
        "--data",
        "commands",
        "--target",
        table,
        "--out",
        out,
        "--epochs",
        2,
        "--methods",
        "coral",
        "--hidden",
        16,
    )
    assert code == 0
    facts = json.loads((out / "run.json").read_text())
    assert [row["method"] for row in facts["adaptation"]["rows"]] == ["source_only", "coral"]
    assert kept_of(out)["rule"] == "last"
    assert [phase["cached"] for phase in facts["schedule"]["phases"]] == [True]
    code, said, _ = call("predict", out, "switch the light on", "--json")
    assert code == 0
    assert json.loads(said)[0]["label"]


def texts_to_adapt(source: Path, target: Path, out: Path, encoder: Path, *options) -> list:
    """`graft train text-domain-adaptation` of two seeds, with one method."""
    return [
        *("train", "text-domain-adaptation"),
        *("--data", source, "--target", target, "--out", out, "--backbone", encoder),
        *("--epochs", 3, "--batch-size", 16, "--hidden", 8, "--seeds", 2),
        *("--methods", "pseudo_label", *options),
    ]


@pytest.fixture(scope="session")
def polite(sentences_csv, made_once) -> Path:
    """The sentences about colours, said politely: `right.csv` with their labels, `wrong.csv` with
    those of others.
    """
    texts, labels, _ = zip(
        *(line.split(",") for line in sentences_csv.read_text().splitlines()[1:]), strict=True
    )

    def make(folder: Path) -> None:
        for name, given in (("right", labels), ("wrong", labels[1:] + labels[:1])):
            rows = [f"please {text},{label}" for text, label in zip(texts, given, strict=True)]
            (folder / f"{name}.csv").write_text("\n".join(["text,label", *rows]) + "\n")

    return made_once("polite sentences", make)


@pytest.fixture(scope="session")
def adapted(polite, sentences_csv, tiny_encoder, made_once) -> Path:
    """The run `run` from colours to the same ones, said politely, measured with their labels; how
    many checkpoints it has written stands in `writes`.
    """

    def make(folder: Path) -> None:
        out = folder / "run"
        given = texts_to_adapt(sentences_csv, polite / "right.csv", out, tiny_encoder)
        with pytest.MonkeyPatch.context() as patch:
            writes = counted_writes(patch)
            assert exit_code(*given, "--target-labels") == 0
        (folder / "writes").write_text(str(len(writes)))

    return made_once("adapted texts", make)


def counted_writes(patch: pytest.MonkeyPatch, interrupted_after: int = 0) -> list[int]:
    """A list that grows with each checkpoint that is written; after so many Ctrl-C is pressed."""
    write, writes = Checkpoints._write, []

    def counting(self, *arguments):
        write(self, *arguments)
        writes.append(1)
        if len(writes) == interrupted_after:
            raise KeyboardInterrupt

    patch.setattr(Checkpoints, "_write", counting)
    return writes


def facts_in(run: Path) -> dict:
    return json.loads((run / "run.json").read_text())["adaptation"]


def assert_the_same_weights(*runs: Path) -> None:
    first, *others = [load_keras_model(run / "model.keras").get_weights() for run in runs]
    for weights in others:
        for a, b in zip(first, weights, strict=True):
            np.testing.assert_array_equal(a, b)


def test_labels_of_the_target_change_nothing_but_the_report(
    call, adapted, polite, sentences_csv, tiny_encoder, tmp_path
):
    runs = {"right": adapted / "run", "without": tmp_path / "without", "wrong": tmp_path / "wrong"}
    for name, table, *options in (
        ("without", "right.csv"),
        ("wrong", "wrong.csv", "--target-labels"),
    ):
        given = texts_to_adapt(sentences_csv, polite / table, runs[name], tiny_encoder, *options)
        assert call(*given)[0] == 0
    right, without, wrong = (facts_in(out) for out in runs.values())
    assert without["chosen"] == right["chosen"] == wrong["chosen"]
    assert [row["accuracy"] for row in right["rows"]] != [row["accuracy"] for row in wrong["rows"]]
    assert_the_same_weights(*runs.values())


def test_killed_and_resumed_the_comparison_is_the_same(
    call, adapted, polite, sentences_csv, tiny_encoder, tmp_path, monkeypatch
):
    """Within the first training, at the end of a seed, within a method: a run that is killed again
    and again.
    """
    out, kills = tmp_path / "killed", (2, 3, 8)
    given = texts_to_adapt(sentences_csv, polite / "right.csv", out, tiny_encoder)
    for interrupted_after in (*kills, 0):
        with monkeypatch.context() as patch:
            writes = counted_writes(patch, interrupted_after)
            code, _, _ = call(*given, "--target-labels", "--resume")
        assert code == (130 if interrupted_after else 0)
        assert out.exists() == (not interrupted_after)
    written = int((adapted / "writes").read_text())
    assert len(writes) == written - sum(kills), "nothing is done twice"
    rows = [
        [{**row, "seconds": 0} for row in facts_in(run)["rows"]] for run in (adapted / "run", out)
    ]
    assert rows[0] == rows[1]
    assert_the_same_weights(adapted / "run", out)


def test_texts_without_cached_embeddings(call, tiny_encoder, sentences_csv, tmp_path):
    """Batches of the two domains are of different lengths then. One unit in the layer that adapts
    is few, and enough.
    """
    code, _, _ = call(
        "train",
        "text-domain-adaptation",
        "--data",
        sentences_csv,
        "--target",
        sentences_csv,
        "--out",
        tmp_path / "run",
        "--backbone",
        tiny_encoder,
        "--epochs",
        1,
        "--batch-size",
        8,
        "--methods",
        "dann",
        "--hidden",
        1,
        "--cache",
        "off",
        "--target-labels",
    )
    assert code == 0
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert [phase["cached"] for phase in facts["schedule"]["phases"]] == [False]


def test_a_net_of_your_own_that_ends_in_a_vector(adapt, dark_photos, tmp_path):
    """It has no feature map for Grad-CAM to point at."""
    import keras
    from keras import layers

    inputs = keras.Input((32, 32, 3))
    x = layers.ReLU()(
        layers.BatchNormalization()(
            layers.Conv2D(4, 3, strides=4)(layers.Rescaling(1 / 255)(inputs))
        )
    )
    x = layers.Dense(8, "relu")(layers.Flatten()(x))
    keras.Model(inputs, x, name="own").save(tmp_path / "own.keras")
    code, said, _, out = adapt(
        dark_photos,
        "--backbone",
        tmp_path / "own.keras",
        "--weights",
        "none",
        "--schedule",
        "scratch",
        "--methods",
        "tent",
    )
    assert code == 0
    assert "tent" in said
    with np.load(out / "mistakes.npz") as mistakes:
        assert "heatmaps" not in mistakes
        assert len(mistakes["images"])
    assert "Worst mistakes" in (out / "report.html").read_text()


def test_few_labels_from_end_to_end(call, photo_folder, dark_photos, tiny_keras, tmp_path, kept_of):
    arguments = (
        "train",
        "semi-supervised",
        "--data",
        photo_folder,
        "--per-class",
        3,
        "--unlabelled",
        dark_photos / "train",
    )
    small = ("--backbone", tiny_keras, "--batch-size", 8)
    code, _, _ = call(*arguments, "--out", tmp_path / "run", *small, "--updates", 6)
    assert code == 0
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["data"]["splits"]["train"]["per_label"] == {"left": 3, "right": 3, "top": 3}
    assert [row["method"] for row in facts["adaptation"]["rows"]] == [
        "supervised_only",
        "pseudo_label",
        "fixmatch",
    ]
    assert facts["adaptation"]["chosen"]["criterion"] == "labelled"
    assert kept_of(tmp_path / "run")["rule"] == "best"
    kept = facts["adaptation"]["chosen"]["method"]
    row = next(row for row in facts["adaptation"]["rows"] if row["method"] == kept)
    assert facts["metrics"]["test"]["accuracy"] == pytest.approx(row["accuracy"])
    assert "Test accuracy" in (tmp_path / "run" / "report.html").read_text()
    code, _, lines = call(
        "train", "semi-supervised", "--data", photo_folder, "--out", tmp_path / "other", *small
    )
    assert code == 2
    assert "have labels: --per-class 10 uses only so many" in lines[0]
    for options, message in (
        (
            ("--per-class", 3, "--updates", 6, "--epochs", 2),
            "--epochs and --updates both say how long to train",
        ),
        (("--per-class", 3, "--updates", 0), "--updates is a number of steps, 1 or more, not 0"),
        (("--per-class", 40), "--per-class 40 cannot be had of 'left'"),
    ):
        code, _, lines = call(*arguments[:4], "--out", tmp_path / "other", *small, *options)
        assert code == 2
        assert message in lines[0]


def test_without_any_labels_from_end_to_end(call, photo_folder, tiny_keras, tmp_path, kept_of):
    out = tmp_path / "pile"
    small = ("--backbone", tiny_keras, "--epochs", 4)
    arguments = (
        "train",
        "self-supervised",
        "--data",
        photo_folder,
        "--out",
        out,
        *small,
        "--batch-size",
        16,
    )
    code, said, _ = call(*arguments, "--labels", "--clusters", 3)
    assert code == 0
    assert "share the label" in said
    facts = json.loads((out / "run.json").read_text())
    assert facts["clusters"]["count"] == 3
    assert kept_of(out)["rule"] == "best"
    with (out / "clusters.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == facts["data"]["images"] == len(list(photo_folder.rglob("*.png")))
    assert {row["cluster"] for row in rows} == {"0", "1", "2"}
    assert all(len(row["nearest"].split(";")) == 6 for row in rows)
    assert "3 crowds" in (out / "report.html").read_text()
    # What it is for.
    run = tmp_path / "run"
    code, _, _ = call(
        "train",
        "image-classification",
        "--data",
        photo_folder,
        "--out",
        run,
        "--backbone",
        out / "backbone.keras",
        "--schedule",
        "feature_extraction",
        "--epochs",
        2,
    )
    assert code == 0
    code, _, lines = call("export", out)
    assert code == 2
    assert "is a backbone without a head" in lines[0]
    code, _, lines = call(
        *arguments[:5], tmp_path / "other", *small, "--batch-size", 16, "--augment"
    )
    assert code == 2
    assert "pairs of versions are compared" in lines[0]
    for options, message in (
        (("--multi-gpu",), "--multi-gpu is not made for pairs"),
        (("--schedule", "feature_extraction"), "take a --schedule that trains more than the head"),
        (("--epochs", 0), "0 epoch(s) cannot be spread"),
        (("--temperature", "nan"), "--temperature is a number, not nan"),
        (
            ("--temperature", 0),
            "the temperature of a contrastive loss must be a number above 0, from",
        ),
        (("--dimension", 1), "--dimension is 2 numbers or more, not 1"),
        (("--clusters", 60), "--clusters is from 2 to one less than the 60 images, not 60"),
    ):
        code, _, lines = call(
            *arguments[:5], tmp_path / "other", *small, "--batch-size", 16, *options
        )
        assert code == 2
        assert message in lines[0]


# ---------------------------------------------------------------------------------------------------------------------
# Bad input


def test_what_needs_batch_normalization_is_refused_before_anything_trains(
    adapt, dark_photos, tmp_path
):
    inputs = keras.Input((32, 32, 3))
    plain = keras.Model(inputs, keras.layers.Conv2D(4, 3, activation="relu")(inputs), name="plain")
    plain.save(tmp_path / "plain.keras")
    own = ("--backbone", tmp_path / "plain.keras", "--weights", "own")
    code, _, lines, _ = adapt(dark_photos, "--methods", "cdan", "adabn", *own)
    assert code == 2
    assert (
        "adabn changes what BatchNormalization knows of the data, and 'plain' has none" in lines[-1]
    )
    assert not any("method: source_only" in line for line in lines)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--methods", "cdna"), "no method is called 'cdna'. Did you mean 'cdan'"),
        (
            ("--methods", "cdan", "--strength", "0"),
            "the --strength of a method is a number above 0, from 1e-07 to 1e+07, not 0",
        ),
        (("--seed", "-1"), "--seed is a whole number from 0 to 4294967295, not -1"),
        (("--split-seed", "-1"), "--split-seed is a whole number from 0 to"),
        (("--seeds", "0"), "--seeds is a number of trainings, 1 or more, not 0"),
        (("--mixed-precision",), "--mixed-precision is not made for adaptation yet: leave it away"),
        (
            ("--schedule", "feature_extraction", "--methods", "coral"),
            "coral adapts features, and here they stay",
        ),
        (
            ("--methods", "pseudo_label", "--threshold", "1.5"),
            "the --threshold for a label to be taken is between 0 and 1",
        ),
        (
            ("--methods", "cdan", "--strength", "1e-30"),
            "a number above 0, from 1e-07 to 1e+07, not 1e-30",
        ),
        (("--methods", "cdan", "--strength", "nan"), "--strength"),
        (("--methods", "pseudo_label", "--threshold", "nan"), "--threshold"),
        (
            ("--methods", "pseudo_label", "--threshold", "0.99999999"),
            "between 0 and 1, not 0.99999999",
        ),
        (
            ("--methods", "mmd", "--batch-size", "1"),
            "mmd needs 2 labelled examples a step or more, and gets 1: raise --batch-size",
        ),
    ],
)
def test_bad_requests(adapt, dark_photos, options, message):
    code, _, lines, out = adapt(dark_photos, *options)
    assert code == 2
    assert len(lines) == 1
    assert message in lines[0]
    assert list(out.parent.glob("*run*")) == []


def test_a_target_with_other_labels_is_refused_where_labels_are_asked_for(
    adapt, dark_photos, tmp_path
):
    other = tmp_path / "other"
    shutil.copytree(dark_photos, other)
    for split in ("train", "test"):
        (other / split / "top").rename(other / split / "upper")
    code, _, lines, _ = adapt(other, "--methods", "coral", "--target-labels")
    assert code == 2
    assert "has the label 'upper', which the source" in lines[0]
    assert "leave --target-labels away" in lines[0]


def test_a_target_without_pictures_and_a_source_of_one_class(adapt, dark_photos, tmp_path):
    (tmp_path / "empty").mkdir()
    code, _, lines, _ = adapt(tmp_path / "empty", "--methods", "coral")
    assert code == 2
    assert "holds no images to adapt to" in lines[0]
    code, _, lines, _ = adapt(tmp_path / "nowhere", "--methods", "coral")
    assert code == 2
    assert "there is no file or folder" in lines[0]
    one = tmp_path / "one"
    shutil.copytree(dark_photos / "train" / "top", one / "top")
    code, _, lines, _ = adapt(dark_photos, "--methods", "coral", data=one)
    assert code == 2
    assert "holds one class only ('top')" in lines[0]


def test_texts_need_a_frozen_encoder_and_a_target(call, tmp_path):
    arguments = ("train", "text-domain-adaptation", "--data", "commands", "--out", tmp_path / "run")
    code, _, lines = call(*arguments)
    assert code == 2
    assert "--target is missing" in lines[0]
    code, _, lines = call(*arguments, "--target", "commands", "--schedule", "full")
    assert code == 2
    assert "behind a frozen encoder" in lines[0]
    code, _, lines = call(*arguments, "--target", "commands", "--methods", "adabn")
    assert code == 2
    assert "no method is called 'adabn'" in lines[0]
    for options in (
        ("--per-class", 5),
        ("--fraction", 0.5),
        ("--fraction", 0),
        ("--compare-scratch",),
        ("--scratch-epochs", 2),
        ("--blocks", 1),
        ("--layer-decay", 0.9),
    ):
        code, _, lines = call(*arguments, "--target", "commands", *options)
        assert code == 2
        assert f"{options[0]} changes nothing where texts are adapted" in lines[0]
    code, _, lines = call(*arguments, "--target", "commands", "--mixed-precision")
    assert code == 2
    assert "--mixed-precision is not made for encoders of texts yet" in lines[0]


def test_the_demonstrations_are_not_mixed(call, tmp_path):
    code, _, lines = call("demo", "--text", "--adapt", "--out", tmp_path / "run")
    assert code == 2
    assert "two demonstrations" in lines[0]
