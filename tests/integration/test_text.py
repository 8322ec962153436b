"""The recipes for text through the real command line: train, export, predict, evaluate; bad input
gets one line.
"""

import csv
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from graft.recipes.runs.supervised import Supervised
from graft.zoo.backbones import encoder_table, encoders
from graft.zoo.backbones.keras_file import load_keras_model
from graft.zoo.graph.stack import backbone_of
from tests.integration.conftest import skip_probe


@pytest.fixture(scope="session")
def colours(tiny_encoder, sentences_csv, made_once):
    """A classifier of colours with all its files."""
    from graft.recipes.commands import export
    from graft.recipes.text_classification import Config, main

    def make(folder):
        main(
            Config(
                data=str(sentences_csv),
                out=folder / "colours",
                backbone=str(tiny_encoder),
                schedule="full",
                epochs=40,
                learning_rate=5e-3,
                max_length=16,
                seeds=2,
                compare_scratch=True,
                scratch_epochs=2,
            )
        )
        options = export.Options(run=folder / "colours", quantize=("float16", "dynamic", "int8"))
        failed = [row for row in export.export(options)["files"] if not row["passed"]]
        assert not failed

    return made_once("colours", make) / "colours"


@pytest.fixture(scope="session")
def spoken(tiny_encoder, made_once):
    """A model of intents and slots, one epoch, with its float32 files."""
    from graft.recipes.commands import export
    from graft.recipes.text_multitask import Config, main

    def make(folder):
        main(
            Config(
                data="commands",
                out=folder / "spoken",
                backbone=str(tiny_encoder),
                epochs=1,
                max_length=24,
                uncertainty=True,
                compare_single=True,
            )
        )
        with pytest.MonkeyPatch.context() as patch:
            skip_probe(patch)
            manifest = export.export(export.Options(run=folder / "spoken"))
        assert all(row["passed"] for row in manifest["files"])

    return made_once("spoken", make) / "spoken"


FILES = ("savedmodel", "model.tflite", "model.onnx", "model.float16.tflite", "model.dynamic.onnx")


@pytest.mark.parametrize("file", FILES)
def test_every_file_says_what_the_run_says(call, colours, file):
    texts = ["the stone is red", "not very GREEN!", "a bl\u00fce box falls"]
    of_run = json.loads(call("predict", colours, *texts, "--json")[1])
    of_file = json.loads(call("predict", colours / "export" / file, *texts, "--json")[1])
    assert [row["input"] for row in of_file] == texts
    assert [row["label"] for row in of_run] == ["red", "green", "blue"]
    close = {"float16": 2e-2, "dynamic": 0.1}.get(
        file.split(".")[1] if file.count(".") > 1 else "", 1e-5
    )
    for ours, theirs in zip(of_run, of_file, strict=True):
        assert theirs["label"] == ours["label"]
        assert theirs["scores"] == pytest.approx(ours["scores"], abs=close)


def test_small_files_need_neither_tensorflow_nor_keras(colours, sentences_csv):
    for file in ("model.onnx", "model.tflite"):
        path = str(colours / "export" / file)
        code = (
            "import sys\n"
            "from graft.recipes.commands import predict, evaluate\n"
            f"predict.command([{path!r}, 'a red box'])\n"
            f"evaluate.command([{path!r}, '--data', {str(sentences_csv)!r}])\n"
            "print([m for m in ('tensorflow', 'keras', 'keras_hub', 'tensorflow_text', 'torch') if "
            "m in sys.modules])"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert done.stdout.splitlines()[0].startswith("a red box\tred ")
        assert done.stdout.splitlines()[-1] == "[]"


def test_a_file_alone_is_enough(call, colours, tmp_path):
    """Labels and tokenizer are inside: the file moves without its folder."""
    for file in ("model.onnx", "model.tflite"):
        moved = tmp_path / file
        moved.write_bytes((colours / "export" / file).read_bytes())
        assert call("predict", moved, "a red box")[1].startswith("a red box\tred ")


def test_the_run_and_its_files_have_the_same_figures(call, colours, sentences_csv):
    figures = [
        json.loads(call("evaluate", artifact, "--data", sentences_csv, "--json")[1])
        for artifact in (
            colours,
            colours / "export" / "model.onnx",
            colours / "export" / "model.tflite",
        )
    ]
    stored = json.loads((colours / "run.json").read_text())["metrics"]["test"]
    for found in figures:
        assert found["accuracy"] == pytest.approx(stored["accuracy"])
        assert found["loss"] == pytest.approx(stored["loss"], abs=1e-4)
        assert found["truncated"] == 0


def test_sentences_that_were_trained_on_are_refused(call, colours, sentences_csv, tmp_path):
    rows = list(csv.DictReader(sentences_csv.open()))
    trained = next(row for row in rows if row["split"] == "train")
    table = tmp_path / "other.csv"
    table.write_text(
        "text,label,split\na sentence of its "
        f"own,red,test\n{trained['text']},{trained['label']},test\n",
        encoding="utf-8",
    )
    for artifact in (colours, colours / "export" / "model.onnx"):
        code, _, lines = call("evaluate", artifact, "--data", table)
        assert code == 2
        assert "1 of 2 test examples are in the training data of this model" in lines[-1]
        assert "(the first: 'line 3')" in lines[-1]
    table.write_text(
        f"text,label,split\na sentence,red,test\n{trained['text'].upper()} !,red,test\n"
    )
    code, _, lines = call("evaluate", colours, "--data", table)
    assert code == 0
    assert (
        "1 of 2 test examples look (or read) the same as training examples (the first: 'line 3')"
        in lines[0]
    )


def test_a_run_says_which_epoch_it_kept(colours, spoken, kept_of):
    assert kept_of(colours)["watched"] == "validation loss"
    assert kept_of(spoken)["watched"] == "validation mean of the tasks' figures"


def test_what_a_run_and_an_export_hold(colours):
    for name in (
        "tokenizer.json",
        "vocab.txt",
        "preprocessing.json",
        "labels.txt",
        "report.html",
        "texts.json",
    ):
        assert (colours / name).is_file()
    manifest = json.loads((colours / "export" / "manifest.json").read_text())
    assert {entry["name"]: entry["dtype"] for entry in manifest["inputs"]} == dict.fromkeys(
        ("token_ids", "padding_mask", "segment_ids"), "int32"
    )
    saved = next(row for row in manifest["files"] if row["format"] == "savedmodel")
    assert saved["needs"] == ["tensorflow-text"]
    assert saved["raw_text"]["same_ids"] == saved["raw_text"]["examples"] > 0
    onnx = next(row for row in manifest["files"] if row["path"] == "model.onnx")
    tflite = next(row for row in manifest["files"] if row["path"] == "model.tflite")
    assert onnx["inputs"][0]["shape"] == [None, None]
    assert tflite["inputs"][0]["shape"] == [1, 16]
    assert (colours / "export" / "tokenizer.json").read_text() == (
        colours / "tokenizer.json"
    ).read_text()
    card = (colours / "export" / "MODEL_CARD.md").read_text()
    assert "pipeline_tag: text-classification" in card
    assert "picture" not in card


def test_a_run_stands_beside_counted_words(colours, capsys):
    """In run.json, on the console, in the report and in the card."""
    content = json.loads((colours / "run.json").read_text())
    counted = content["counted_words"]
    assert counted["value"] > 0.9, "a colour stands in each text"
    assert counted["counted"] == "words and pairs of words"
    assert counted["trained"] == content["metrics"]["test"]["accuracy"]
    assert counted["examples"] == content["metrics"]["test"]["examples"]
    assert counted["decision"] in ("gained", "lost", "undecided")
    assert "counted words (TF-IDF + logistic regression)" in counted["text"]
    Supervised().tell(colours)
    assert counted["text"] in capsys.readouterr().out
    for page in (colours / "report.html", colours / "export" / "MODEL_CARD.md"):
        text = page.read_text()
        assert "TF-IDF + logistic regression" in text, page
        assert "alanced accuracy" in text, page
    assert all("per_class" not in figures for figures in content["test_by_seed"])


def test_texts_that_the_tokenizer_cannot_read(call, tiny_encoder, tmp_path):
    """Several labels at once: their figures have names of their own while training and in
    run.json.
    """
    rng = np.random.default_rng(0)
    words = [
        "\u0641\u064a\u0644\u0645",
        "\u062c\u064a\u062f",
        "\u0633\u064a\u0621",
        "\u0642\u0635\u0629",
        "red",
    ]
    rows = [
        [*rng.choice(words, 4), ("\u0637\u0648\u064a\u0644", "\u0642\u0635\u064a\u0631")[i % 2]]
        for i in range(60)
    ]
    lines = [
        "text,label",
        *(
            f"{' '.join(row)},{('long', 'short', 'long;other', '')[i % 4]}"
            for i, row in enumerate(rows)
        ),
    ]
    table = tmp_path / "arabic.csv"
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    code, out, said = call(
        "train",
        "text-classification",
        "--data",
        table,
        "--out",
        tmp_path / "run",
        "--backbone",
        tiny_encoder,
        "--multi-label",
        "--epochs",
        1,
        "--schedule",
        "feature_extraction",
        "--max-length",
        16,
    )
    assert code == 0
    unread = [
        line for line in said if "are unknown ([UNK]) to the tokenizer" in " ".join(line.split())
    ]
    assert len(unread) == 1
    assert "Arabic" in unread[0]
    assert "xlm_roberta_base_multi" in unread[0]
    assert "counted words (TF-IDF + logistic regression)" in out
    content = json.loads((tmp_path / "run" / "run.json").read_text())
    assert len(content["warnings"]) == 1
    assert content["data"]["splits"]["train"]["unknown_share"] > 0.5
    assert content["counted_words"]["key"] == "average_precision"
    assert "Arabic" in (tmp_path / "run" / "report.html").read_text()
    columns = (tmp_path / "run" / "history.csv").read_text().splitlines()[0].split(",")
    assert {"binary_accuracy", "val_binary_accuracy"} <= set(columns)
    assert not {"accuracy", "val_accuracy"} & set(columns)
    figures = content["metrics"]["validation"]
    assert "accuracy" not in figures
    last = (tmp_path / "run" / "history.csv").read_text().splitlines()[-1].split(",")
    assert figures["binary_accuracy"] == pytest.approx(
        float(last[columns.index("val_binary_accuracy")])
    )
    code, out, said = call(
        "predict", tmp_path / "run", "red red", words[0], f"{words[1]} {words[2]} red"
    )
    assert code == 0
    assert len(out.splitlines()) == 3
    assert said == [
        "warning: 2 of 3 texts are mostly unknown ([UNK]) to the model's tokenizer: do not trust "
        "what it says of them "
        '("unreadable" in --json)'
    ]


def test_a_savedmodel_of_texts_that_left_its_manifest_is_opened(colours, tmp_path):
    """Before, the tokenizer inside was taken for an operator that does more than compute."""
    from graft.export.untrusted.checks import check_untrusted

    shutil.copytree(colours / "export" / "savedmodel", tmp_path / "copy")
    check_untrusted(tmp_path / "copy")


def test_strings_go_into_the_savedmodel(colours):
    """The second signature gives what the first one gives for the ids of tokenizer.json."""
    import tensorflow as tf
    import tensorflow_text  # noqa: F401

    loaded = tf.saved_model.load(str(colours / "export" / "savedmodel"))
    scores = loaded.signatures["raw_text"](text=tf.constant(["a red box", "bl\u00fce"]))[
        "probabilities"
    ].numpy()
    labels = (colours / "labels.txt").read_text().split()
    assert [labels[i] for i in scores.argmax(-1)] == ["red", "blue"]


def test_long_texts_are_cut_everywhere_alike(call, colours):
    text = "red " * 200
    rows = [
        json.loads(call("predict", artifact, text, "--json")[1])[0]["scores"]
        for artifact in (
            colours,
            colours / "export" / "model.tflite",
            colours / "export" / "model.onnx",
        )
    ]
    assert rows[0] == pytest.approx(rows[1], abs=1e-5)
    assert rows[0] == pytest.approx(rows[2], abs=1e-5)


def test_the_report_shows_texts(colours, spoken):
    page = (colours / "report.html").read_text()
    for part in (
        "Most telling words",
        "Lengths",
        "Training sentences",
        "Confusion on the test split",
        "test sentence",
    ):
        assert part in page
    assert "picture" not in page.split("</style>")[1]
    page = (spoken / "report.html").read_text()
    for part in (
        "Label by label: intent",
        "Label by label: slots",
        "Test intent accuracy",
        "Test slots entity F1",
    ):
        assert part in page


def test_intents_and_slots(call, spoken):
    content = json.loads((spoken / "run.json").read_text())
    assert set(content["metrics"]["test"]["tasks"]) == {"intent", "slots"}
    assert [part["task"] for part in content["sharing"]] == ["intent", "slots"]
    for artifact in (spoken, spoken / "export" / "model.onnx", spoken / "export" / "model.tflite"):
        (row,) = json.loads(call("predict", artifact, "play jazz in the kitchen", "--json")[1])
        assert set(row) == {"input", "intent", "slots"}
        assert row["slots"]["words"] == ["play", "jazz", "in", "the", "kitchen"]
        assert len(row["slots"]["tags"]) == 5
        assert row["intent"]["label"] in row["intent"]["scores"]
    found = json.loads(
        call("evaluate", spoken / "export" / "model.onnx", "--data", "commands", "--json")[1]
    )
    assert found["tasks"]["slots"]["f1"] == pytest.approx(
        content["metrics"]["test"]["tasks"]["slots"]["f1"]
    )
    assert found["tasks"]["intent"]["accuracy"] == pytest.approx(
        content["metrics"]["test"]["tasks"]["intent"]["accuracy"]
    )


@pytest.mark.usefixtures("quick_probe")
def test_several_labels_and_vectors(call, tiny_encoder, sentences_csv, tmp_path):
    lines = sentences_csv.read_text().splitlines()[1:]
    rows = [line.split(",") for line in lines]
    table = tmp_path / "many.csv"
    table.write_text(
        "text,label,split\n"
        + "".join(
            f"{t},{label};{'stone' if 'stone' in t else 'none'},{s}\n" for t, label, s in rows
        )
    )
    common = ("--backbone", tiny_encoder, "--schedule", "feature_extraction", "--epochs", 2)
    code, out, _ = call(
        "train",
        "text-classification",
        "--data",
        table,
        "--multi-label",
        "--out",
        tmp_path / "many",
        *common,
    )
    assert code == 0
    assert "average precision" in out
    found = json.loads(call("evaluate", tmp_path / "many", "--data", table, "--json")[1])
    assert f"average precision {found['average_precision']:.3f}" in out
    (row,) = json.loads(call("predict", tmp_path / "many", "a red stone", "--json")[1])
    assert set(row["scores"]) == {"red", "green", "blue", "stone", "none"}
    code, out, _ = call(
        "train", "text-similarity", "--data", sentences_csv, "--out", tmp_path / "near", *common
    )
    assert code == 0
    assert "recall at 1" in out
    assert call("export", tmp_path / "near", "--formats", "onnx")[0] == 0
    found = json.loads(
        call(
            "evaluate",
            tmp_path / "near" / "export" / "model.onnx",
            "--data",
            sentences_csv,
            "--json",
        )[1]
    )
    assert f"recall at 1 {found['recall_at_1']:.3f}" in out
    (row,) = json.loads(
        call("predict", tmp_path / "near" / "export" / "model.onnx", "a red stone", "--json")[1]
    )
    assert np.linalg.norm(row["embedding"]) == pytest.approx(1, abs=1e-5)


def test_another_run_is_an_encoder(call, colours, spoken, sentences_csv, tmp_path):
    """What it has learned goes in without its heads, of one head and of several; random weights
    when they are asked for.
    """
    for run in (colours, spoken):
        row = encoders.find_encoder(str(run))
        assert (row.family, row.feature_dim, row.max_length, row.licence) == (
            "bert",
            16,
            32,
            "unknown",
        )
        ids = {
            name: np.int32([[2, 7, 9, 3]] if name == "token_ids" else [[1, 1, 1, 1]])
            for name in encoder_table.ENCODER_INPUTS
        }
        whole = load_keras_model(run / "model.keras")
        wanted = backbone_of(whole)(ids)
        encoder = encoders.build_encoder(row)
        np.testing.assert_array_equal(encoder(ids), wanted)
        assert len(encoder.layers) < len(whole.layers)
        assert not np.allclose(encoders.build_encoder(row, "none")(ids), wanted)
        assert encoders.load_tokenizer(row).json == (run / "tokenizer.json").read_text()
    code, _, _ = call(
        "train",
        "text-classification",
        "--data",
        sentences_csv,
        "--out",
        tmp_path / "next",
        "--backbone",
        colours,
        "--schedule",
        "lora",
        "--epochs",
        1,
        "--compare-scratch",
        "--scratch-epochs",
        1,
    )
    assert code == 0
    described = json.loads((tmp_path / "next" / "run.json").read_text())["backbone"]
    assert described["weights"]["file"] == str(colours / "model.keras")
    assert encoders.find_encoder(str(tmp_path / "next")).family == "bert"


def test_runs_that_are_no_encoder_are_refused(refuse, colours, small_run, sentences_csv, tmp_path):
    said = refuse(sentences_csv, "--backbone", small_run)
    assert (
        f"the run '{small_run}' holds no text encoder but 'tiny': give the run of a recipe" in said
    )
    for name, damaged in (
        ("run.json", b"{"),
        ("tokenizer.json", None),
        ("model.keras", b"no archive"),
    ):
        run = tmp_path / name
        shutil.copytree(colours, run)
        (run / name).unlink() if damaged is None else (run / name).write_bytes(damaged)
        said = refuse(sentences_csv, "--backbone", run)
        assert f"'{run / name}' is {'missing' if damaged is None else 'damaged'}" in said


@pytest.mark.parametrize("name", ["preprocessing.json", "tokenizer.json", "examples.npz"])
def test_export_names_what_a_run_lacks(call, colours, tmp_path, name):
    run = tmp_path / "run"
    shutil.copytree(colours, run)
    (run / name).write_bytes(b"\xff{")
    code, _, (line,) = call("export", run, "--out", tmp_path / "files")
    assert code == 2
    assert f"'{run / name}' is damaged" in line


def test_files_of_texts_stand_in_one_table(call, colours, spoken, sentences_csv):
    code, out, _ = call(
        "measure", colours / "export" / "model.onnx", "--data", sentences_csv, "--json"
    )
    assert code == 0
    (row,) = json.loads(out)
    assert (
        row["accuracy"]
        == json.loads((colours / "run.json").read_text())["metrics"]["test"]["accuracy"]
    )
    (row,) = json.loads(
        call("measure", spoken / "export" / "model.onnx", "--data", "commands", "--json")[1]
    )
    assert (row["accuracy"], row["examples"], row["error"]) == (None, 96, None)
    assert (row["figure"], row["split"]) == (None, "test"), "two tasks have no one figure"


def test_data_sets_of_tfds_that_name_no_pair(tmp_path, monkeypatch):
    """As glue: supervised_keys are missing, the labels of the test split are secret (-1)."""
    import tensorflow_datasets as tfds

    from graft.recipes.data import sentences

    class TinyGlue(tfds.core.GeneratorBasedBuilder):
        """Sentences."""

        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            label = tfds.features.ClassLabel(names=["bad", "good"])
            return self.dataset_info_from_configs(
                features=tfds.features.FeaturesDict(
                    {"sentence": tfds.features.Text(), "label": label, "idx": np.int32}
                )
            )

        def _split_generators(self, _):
            return {
                "train": self._generate_examples(8),
                "test": self._generate_examples(2, secret=True),
            }

        def _generate_examples(self, count, secret=False):
            for i in range(count):
                yield (
                    i,
                    {"sentence": f"s\u00e9ntence {i}", "label": -1 if secret else i % 2, "idx": i},
                )

    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path), raising=False)
    TinyGlue(data_dir=tmp_path).download_and_prepare()
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    source = sentences.load("tfds:tiny_glue", need=("label",))
    assert source.labels == ("bad", "good")
    assert sorted(s.text for s in source.splits["train"])[0] == "s\u00e9ntence 0"
    assert "test" not in source.splits


@pytest.fixture
def refuse(call, tmp_path, tiny_encoder):
    """`graft train text-classification` that must fail with one line and leave nothing."""

    def run(data, *options, recipe="text-classification"):
        shelf = tmp_path / "shelf"
        shelf.mkdir(exist_ok=True)
        code, _, lines = call(
            "train",
            recipe,
            "--data",
            data,
            "--out",
            shelf / "run",
            "--backbone",
            tiny_encoder,
            *options,
        )
        assert code == 2
        *found, line = lines  # what was found in the data is said before a model is built
        assert all(other.startswith("warning: ") for other in found)
        assert [p.name for p in shelf.iterdir() if p.name != ".graft-cache"] == []
        return line

    return run


def test_bad_requests_get_one_line(refuse, call, sentences_csv, tmp_path, colours):
    assert "line 2" in refuse(_written(tmp_path, "text,label\nx\n"))
    assert "line 2: the column 'text' is empty" in refuse(_written(tmp_path, "text,label\n  ,a\n"))
    assert "no schedule is called 'loral'. Did you mean 'lora'?" in refuse(
        sentences_csv, "--schedule", "loral"
    )
    assert "--augment flip changes images" in refuse(sentences_csv, "--augment", "flip")
    assert "--class-weights is for one label" in refuse(
        sentences_csv, "--class-weights", "--multi-label"
    )
    assert "--mixed-precision is not made for" in refuse(sentences_csv, "--mixed-precision")
    assert "has no weights 'imagenet'" in refuse(sentences_csv, "--weights", "imagenet")
    assert "at least 8 tokens, not 3" in refuse(sentences_csv, "--max-length", 3)
    assert "has no column 'tags'" in refuse(sentences_csv, recipe="token-classification")
    assert "no text encoder is called 'bert'" in refuse(sentences_csv, "--backbone", "bert")
    code, _, lines = call("predict", colours / "export" / "model.onnx", "  ")
    assert code == 2
    assert "text 1 of 1 is empty: give one that says something" in lines[0]
    strangers = _written(
        tmp_path,
        "text,label,split\nx,red,test\ny,pink,test\na,red,train\nb,red,train\nc,pink,train\nd,pink,train\n",
    )
    code, _, lines = call("evaluate", colours / "export" / "model.onnx", "--data", strangers)
    assert code == 2
    assert "the label 'pink' is not one of the model's 3: blue, green, red" in lines[0]


def _written(folder, content: str):
    path = folder / "bad.csv"
    path.write_text(content)
    return path
