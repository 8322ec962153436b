"""The report of a run: what it says, that it loads nothing, that labels cannot break it; and
Grad-CAM.
"""

import base64
import csv
import io
import itertools
import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import numpy as np
import pytest

from graft.export.intervals import wilson
from graft.recipes.report import card, explain, headline, report, report_training, wording
from graft.recipes.report.drawing import curves, figures
from graft.recipes.report.drawing.svg import COLOURS
from graft.recipes.report.shareable import without_folders
from graft.recipes.runs.supervised import Supervised
from graft.recipes.tasks import verdicts
from graft.zoo.errors import ArtifactError, ConfigError

ACCURACY, R2 = {"name": "accuracy", "key": "accuracy"}, {"name": "R²", "key": "r2"}
LABELS = ["ant", "<script>alert(1)</script>", "a & \"b\" 'c'", "日本"]
VOID = {"meta", "img", "br", "wbr", "link", "input", "hr"}


class Page(HTMLParser):
    """A parsed report: tags with their attributes, the text, and what a browser would have to
    mend.
    """

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.broken, self.words, self.style = [], [], [], [], ""
        self.feed(text)
        self.close()
        self.broken += self.open
        self.text = re.sub(r"\s+", " ", "".join(self.words).replace("\u202f", " "))

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag in ("td", "th"):
            self.words.append(" ")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.broken.append(tag)

    def handle_data(self, text):
        if self.open and self.open[-1] == "style":
            self.style += text
        else:
            self.words.append(text)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def facts(labels=LABELS, matrix=None):
    """A run.json of a small run; `matrix` is the confusion on the test split."""
    matrix = (
        np.diag([9] * len(labels)) + np.eye(len(labels), k=1, dtype=int)
        if matrix is None
        else matrix
    )
    per_class = {
        label: {
            "precision": 0.9,
            "recall": 0.75 + i / 100,
            "f1": 0.8 + i / 100,
            "examples": int(row.sum()),
        }
        for i, (label, row) in enumerate(zip(labels, matrix, strict=True))
    }
    accuracy = float(np.trace(matrix) / matrix.sum())
    figures = {
        "examples": int(matrix.sum()),
        "accuracy": accuracy,
        "loss": 0.3,
        "per_class": per_class,
    }
    measured = {**figures, "tasks": {"probabilities": figures}}
    phase = {
        "blocks": 0,
        "trainable_parameters": 10,
        "total_parameters": 2270794,
        "epochs": 2,
        "epochs_run": 2,
        "learning_rate": 1e-3,
        "batch_norm": "inference",
        "seconds": 3.0,
        "best_epoch": 2,
        "best_validation_accuracy": 0.8,
    }
    splits = {
        name: {"examples": n * len(labels), "per_label": dict.fromkeys(labels, n)}
        for name, n in {"train": 20, "validation": 5, "test": 10}.items()
    }
    return {
        "schema": 2,
        "recipe": "image-classification",
        "modality": "image",
        "command": "graft train <x>",
        "config": {"epochs": 4, "compare_scratch": False},
        "seed": 7,
        "versions": {"keras": "3.15.1"},
        "machine": "Linux",
        "created": "2025-01-02T03:04:05+00:00",
        "backbone": {
            "name": "tiny",
            "parameters": 5,
            "paper": "A 2020",
            "licence": "MIT",
            "weights": {"spec": "bundled", "file": "w.h5", "sha256": "ab12"},
        },
        "data": {
            "source": "/somewhere/zoo",
            "fingerprint": "f00d",
            "labels": labels,
            "splits": splits,
            "image_size": 24,
            "made_splits": ["validation"],
            "split_seed": 3,
            "skipped": [],
            "duplicates_across_splits": 0,
            "decode": {"library": "Pillow", "range": [0, 255]},
        },
        "schedule": {
            "name": "fine_tune",
            "phases": [{"name": n, "train": "head", **phase} for n in ("head", "top")],
        },
        "tasks": {
            "probabilities": {"kind": "single_label", "labels": labels, "figure": ACCURACY},
        },
        "metrics": {"validation": measured, "test": measured},
        "confusion": {"split": "test", "matrix": matrix.tolist()},
        "seconds": {"train": 151.0},
        "verdict": None,
    }


def two_tasks(content, name, figures):
    """The content of a run.json with a task of numbers, `name`, beside that of labels, "kind"."""
    (kind,) = content["metrics"]["test"]["tasks"].values()
    both = {"examples": kind["examples"], "tasks": {"kind": kind, name: figures}}
    (labels,) = content["tasks"].values()
    return content | {
        "recipe": "multitask",
        "tasks": {
            "kind": labels,
            name: {"kind": "regression", "labels": [name], "figure": R2},
        },
        "metrics": {"validation": both, "test": both},
        "test_by_seed": [both],
    }


def verdict(*gains):
    return {
        "text": "what the seeds say",
        "transfer": {"accuracy": [0.9] * len(gains), "seconds": [10.0] * len(gains)},
        "scratch": {
            "accuracy": [0.9 - gain / 100 for gain in gains],
            "seconds": [20.0] * len(gains),
        },
        "gain_points": list(gains),
    }


def write_history(run, rows):
    with open(run / "history.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            [
                "epoch",
                "phase",
                "seconds",
                "learning_rate",
                "loss",
                "accuracy",
                "val_loss",
                "val_accuracy",
            ]
        )
        writer.writerows(rows)


def make_run(folder, content, size=24):
    """A run folder with every optional file."""
    folder.mkdir(exist_ok=True)
    count = len(content["data"]["labels"])
    pictures = np.random.default_rng(0).integers(0, 255, (count, size, size, 3), np.uint8)
    (folder / "run.json").write_text(json.dumps(content))
    write_history(
        folder,
        [
            (1, "head", 1, 1e-3, 1.5, 0.4, 1.6, 0.3),
            (2, "head", 1, 1e-3, 1.2, 0.6, "", ""),
            (3, "<i>&", 1, "", 1, 0.7, 1.1, 0.65),
        ],
    )
    np.savez(folder / "samples.npz", images=pictures, labels=np.arange(count))
    np.savez(
        folder / "mistakes.npz",
        images=pictures[:2],
        truth=np.array([0, 1]),
        predicted=np.array([1, 0]),
        probability=np.array([0.987, 0.6]),
        names=np.array(["test/<b>.png", "test/\udcff.png"]),
        heatmaps=np.float32([[[0, 0], [0, 1]], [[0, 0], [0, 0]]]),
    )
    (folder / "export").mkdir(exist_ok=True)
    parity = {"max_abs_diff": 1.2e-6, "logits_diff": 1e-5, "agreement": 1.0, "examples": 64}
    good = {
        "format": "tflite",
        "path": "model.tflite",
        "size_bytes": 9_112_345,
        "seconds": 6.1,
        "parity": parity,
    }
    weightless = {
        **good,
        "format": "onnx",
        "path": "model.onnx",
        "size_bytes": 200,
        "passed": False,
    }
    missing = {"format": "savedmodel", "passed": False, "error": "no <such> operator"}
    files = [{**good, "passed": True}, weightless, missing]
    (folder / "export" / "manifest.json").write_text(json.dumps({"schema": 2, "files": files}))
    return folder


def page(run):
    return Page(report.write(run).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The report of a run that has everything."""
    content = facts()
    content["verdict"] = verdict(9.0, 8.0, 10.0)
    content["data"] |= {"skipped": ["train/<broken>.jpg"], "duplicates_across_splits": 2}
    content["data"]["left_out"] = [
        {"reason": ".heic", "count": 1200, "example": "a.heic"},
        {"reason": "<hidden>", "count": 4, "example": "b"},
    ]
    return page(make_run(tmp_path_factory.mktemp("run"), content))


def test_the_page_says_what_the_run_was(whole):
    accuracy = "92.3 %"  # 36 of 39
    assert (
        f"Of 39 test images, {accuracy} were labelled correctly (95 % interval 79.7 to 97.3 %)"
        in whole.text
    )
    for words in (
        "Image classification on zoo",
        "2 min 31 s",
        "2.27 M",
        "9.11 MB",
        "▲ Transfer gained",
        "What the seeds say.",
        "+9.0 points",
        "by seed: +9.0, +8.0, +10.0",
        "taken from the training data, split seed 3",
        "2 images stand in more than one split",
        "1 unreadable image left out",
        "train/<broken>.jpg",
        "98.7 % sure",
        "1.2e-06",
        "100.0 % of 64",
        "✓ pass",
        "✗ FAIL",
        "no <such> operator",
        "graft train <x>",
        "f00d",
        "ab12",
        "keras 3.15.1",
        "7, splits 3",
        "1,200 .heic, 4 <hidden>",
        "1,204",
    ):
        assert words in whole.text, words
    assert "200 B" in whole.text, "the failed file keeps its row"
    assert "Exported file9.11 MB" in whole.text.replace(" 9.11", "9.11"), (
        "a failed file is not the smallest one"
    )


def test_untrusted_text_stays_text(whole):
    """A label, a file name or a phase that looks like HTML is shown, never run."""
    names = {name for name, _ in whole.tags}
    assert not names & {"script", "i", "such", "broken", "iframe", "object", "link", "base"}
    assert whole.text.count("<script>alert(1)</script>") >= 4
    assert "test/<b>.png" in whole.text
    assert not [key for _, attributes in whole.tags for key in attributes if key.startswith("on")]


def test_nothing_is_loaded_from_elsewhere(whole):
    for name, attributes in whole.tags:
        for key, value in attributes.items():
            if key in ("src", "href", "xlink:href", "srcset", "data", "action", "poster"):
                assert value.startswith(("data:image/", "#")), (name, key, value[:60])
            if key == "style":
                assert "url(" not in value.replace("url(#", "")
    assert "url(" not in whole.style
    assert "@import" not in whole.style


def test_the_markup_is_whole_and_accessible(whole):
    assert whole.broken == []
    ids = [attributes["id"] for _, attributes in whole.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = [a["href"][1:] for a in whole.all("a")]
    assert targets
    assert set(targets) <= set(ids)
    assert len(whole.all("img")) == len(LABELS) + 4
    assert all(attributes.get("alt") for attributes in whole.all("img"))
    assert all(attributes.get("scope") in ("col", "row") for attributes in whole.all("th"))
    levels = [int(name[1]) for name, _ in whole.tags if re.fullmatch("h[1-6]", name)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    charts = [a for a in whole.all("div") if a.get("role") == "img"]
    assert [" ".join(chart["aria-label"].replace("\u202f", " ").split()) for chart in charts] == [
        "Accuracy against the epoch. At the end: training 70.0 %, validation 65.0 %.",
        "Loss against the epoch. At the end: training 1, validation 1.1.",
    ]
    assert any(a["alt"].endswith("most at the lower right") for a in whole.all("img"))
    assert any(a["alt"].startswith("no place spoke") for a in whole.all("img"))


def test_colours_have_contrast(whole):
    """WCAG AA: 4.5 for text, 3 for lines; in the light and in the dark page."""
    schemes = re.findall(r":root \{(.*?)\}", whole.style, re.DOTALL)[:2]
    assert len(schemes) == 2
    for scheme in schemes:
        colours = {
            name: rgb(value) for name, value in re.findall(r"--([\w-]+):\s*([^;/]+);", scheme)
        }
        for behind in ("page", "surface"):
            for name in ("ink", "muted", "accent", "good", "bad"):
                assert contrast(colours[name], colours[behind]) >= 4.5, (name, behind)
        for behind in ("page", "band"):
            for name in ("train", "validation"):
                assert contrast(colours[name], colours[behind]) >= 3, (name, behind)
        for share in np.linspace(0, 1, 11):
            for tint in ("right", "wrong"):
                mixed = [
                    share * a + (1 - share) * b
                    for a, b in zip(colours[tint], colours["page"], strict=True)
                ]
                assert contrast(colours["ink"], mixed) >= 4.5, (tint, share)


def rgb(value):
    if value.startswith("#"):
        digits = value[1:] if len(value) == 7 else "".join(2 * d for d in value[1:])
        return [int(digits[i : i + 2], 16) for i in (0, 2, 4)]
    return [int(part) for part in re.findall(r"\d+", value)[:3]]


def contrast(one, other):
    def luminance(colour):
        parts = [c / 255 for c in colour]
        parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2] + 0.05

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return light / dark


def of_schema_1(content):
    """The same as an older Graft wrote it."""
    new = ("tasks", "modality", "test_by_seed")
    left = {name: part for name, part in content.items() if name not in new}
    bare = {split: {**measured} for split, measured in content["metrics"].items()}
    for measured in bare.values():
        del measured["tasks"]
    by_seed = [measured["accuracy"] for measured in content["test_by_seed"]]
    return left | {"schema": 1, "metrics": bare, "test_accuracy_by_seed": by_seed}


def test_a_run_of_an_older_graft_has_the_same_report(tmp_path):
    by_seed = [
        {"accuracy": value, "tasks": {"probabilities": {"accuracy": value}}} for value in (0.9, 0.8)
    ]
    content = facts() | {"test_by_seed": by_seed}
    run = make_run(tmp_path / "run", content)
    new = report.write(run).read_text()
    assert "90.0" in new
    (run / "run.json").write_text(json.dumps(of_schema_1(content)))
    assert report.write(run).read_text() == new


def test_a_run_with_nothing_optional_has_a_report(tmp_path):
    content = facts()
    del content["metrics"]["test"], content["data"]["splits"]["test"]
    content["confusion"] = None
    (tmp_path / "run.json").write_text(json.dumps(content))
    bare = page(tmp_path)
    assert bare.broken == []
    assert "Of 39 validation images" in bare.text
    assert "There is no test split" in bare.text
    assert "--compare-scratch" in bare.text
    assert "graft export RUN" in bare.text
    for section in ("Curves", "Confusion on", "Worst mistakes", "Test accuracy"):
        assert section not in bare.text
    assert bare.all("img") == []


def test_a_run_that_measured_nothing_has_a_report(tmp_path):
    content = facts()
    content["metrics"], content["confusion"] = {}, None
    (tmp_path / "run.json").write_text(json.dumps(content))
    assert "Nothing was measured on held-out images" in page(tmp_path).text


@pytest.mark.parametrize(
    ("gains", "words"),
    [
        ((1.0, 2.0), "▲ Transfer gained"),
        ((-1.0, -2.0), "▼ Transfer lost"),
        ((-1.0,), "◆ One seed cannot tell"),
        ((-1.0, 2.0, 3.0), "◆ Cannot be told apart"),
        ((9.0,), "◆ One seed cannot tell"),
    ],
)
def test_the_verdict_is_said_plainly(tmp_path, gains, words):
    content = facts()
    content["verdict"] = verdict(*gains)
    (tmp_path / "run.json").write_text(json.dumps(content))
    assert words in page(tmp_path).text


def shown(tmp_path, content, manifest=None):
    """The page of a run.json, with a manifest where one is given."""
    (tmp_path / "run.json").write_text(json.dumps(content))
    if manifest is not None:
        (tmp_path / "export").mkdir(exist_ok=True)
        (tmp_path / "export" / "manifest.json").write_text(json.dumps(manifest))
    return page(tmp_path)


def compared(text, decision, gains, interval):
    return {
        "text": text,
        "decision": decision,
        "gain_points": gains,
        "interval": interval,
        "seeds": len(gains),
        "examples": 300,
    }


@pytest.mark.parametrize(
    ("decision", "heading"),
    [
        ("gained", "▲ Transfer gained"),
        ("lost", "▼ Transfer lost"),
        ("undecided", "◆ Cannot be told apart"),
        ("one_seed", "◆ One seed cannot tell"),
    ],
)
def test_the_decision_of_a_verdict_goes_before_its_gains(tmp_path, decision, heading):
    content = facts()
    content["verdict"] = verdict(9.0, 8.0) | compared(
        "what was decided", decision, [9.0, 8.0], [-1.25, 18.0]
    )
    text = shown(tmp_path, content).text
    assert heading in text
    assert "What was decided." in text
    assert "95 % interval -1.2 to +18.0" in text


def test_one_seed_of_an_older_run_claims_nothing(tmp_path):
    content = facts()
    content["verdict"] = verdict(9.0) | {
        "text": "transfer gained +9.0 points (1 seed) and cost 0.1 minutes a run"
    }
    content["sharing"] = [
        {
            "task": "kind",
            "key": "accuracy",
            "together": [0.9],
            "alone": [0.8],
            "gain_points": [10.0],
            "text": "kind: sharing gained +10.0 points (1 seed)",
        }
    ]
    text = shown(tmp_path, content).text
    assert "transfer gained" not in text.lower()
    assert "Transfer: +9.0 points on one seed, which cannot tell a gain from chance." in text
    assert "kind: sharing: +10.0 points on one seed, which cannot tell a gain from chance." in text


def test_seconds_are_no_tenths_of_a_minute(tmp_path):
    content = facts()
    content["verdict"] = verdict(9.0, 8.0) | {
        "text": "transfer gained +8.5 points (2 seeds) and saved 0.2 minutes a run"
    }
    assert "and saved 10 s a run." in shown(tmp_path, content).text


def test_without_a_comparison_there_is_no_verdict(tmp_path):
    bare = shown(tmp_path, facts())
    assert "Verdict" not in bare.text
    assert "#verdict" not in [a["href"] for a in bare.all("a")]
    assert bare.text.index("--compare-scratch") > bare.text.index("Schedule: fine_tune")
    assert "Verdict" in shown(tmp_path, facts() | {"verdict": verdict(1.0, 2.0)}).text


def test_warnings_of_a_run_stand_at_the_top(tmp_path):
    content = facts() | {"warnings": ["the training diverged: the loss rose in /home/alice/x.csv"]}
    text = shown(tmp_path, content).text
    assert "Warning: The training diverged: the loss rose in x.csv." in text
    assert text.index("The training diverged") < text.index("Test accuracy")


@pytest.mark.parametrize(
    ("made", "config", "origins"),
    [
        ([], {}, ["given", "given", "given"]),
        (
            ["test", "validation"],
            {},
            [
                "what is left of the data after validation and test were taken from it, split seed "
                "3",
                "taken from the training data, split seed 3",
                "taken from the training data, split seed 3",
            ],
        ),
        (
            ["validation"],
            {"per_class": 20},
            [
                "what is left of the data after validation was taken from it, split seed 3; of "
                "that 20 of each label, "
                "drawn by the same seed",
                "taken from the training data, split seed 3",
                "given",
            ],
        ),
        (
            [],
            {"fraction": 0.25},
            ["given; of that 25 % of each label, drawn by split seed 3", "given", "given"],
        ),
    ],
)
def test_the_origin_of_a_split_says_what_was_taken_from_it(tmp_path, made, config, origins):
    content = facts()
    content["data"]["made_splits"] = made
    content["config"] |= config
    text = shown(tmp_path, content).text
    table = text[text.index("Origin") : text.index("Images by label")]
    for name, origin in zip(("train", "validation", "test"), origins, strict=True):
        assert re.search(rf"{name} [\d,]+ [\d,]+ {re.escape(origin)} ", table), (name, table)


def adapted(accuracy, seeds=(0,)):
    """run.json of a domain adaptation; `accuracy` is the kept method's on the target, or None."""
    content = facts()
    content["data"]["target"] = {
        "source": "/home/alice/new photos",
        "unlabelled": 200,
        "measured": 200 if accuracy else 0,
        "measured_are_unlabelled": False,
        "skipped": ["'/home/alice/new photos/a b.jpg' cannot be read"],
    }
    rows = [
        {
            "method": method,
            "seed": seed,
            "seconds": 5.0,
            "accuracy": accuracy and accuracy - less,
            "labelled": 0.9,
            "information": 1.0,
            "iwv": 0.8,
            "test": 0.95,
        }
        for method, less in (("source_only", 0.1), ("cdan", 0.0))
        for seed in seeds
    ]
    said = {"text": "cdan gained +10.0 points (1 seed)", "gain_points": [10.0] * len(seeds)}
    content["adaptation"] = {
        "baseline": "source_only",
        "measured_on": "target",
        "rows": rows,
        "per_class": [],
        "chosen": {"method": "cdan", "seed": 0, "criterion": "information"},
        "chosen_by": "information",
        "verdicts": {"cdan": said} if accuracy else {},
        "oracle": {"method": "cdan", "seed": 0, "accuracy": accuracy} if accuracy else None,
    }
    by_seed = [{"tasks": {"probabilities": {"accuracy": 0.95}}} for _ in seeds]
    return content | {"recipe": "domain-adaptation", "test_by_seed": by_seed}


def test_domain_adaptation_headlines_the_target(tmp_path):
    text = shown(tmp_path, adapted(0.7)).text
    assert (
        "Of 200 target images, 70.0 % were labelled correctly (95 % interval 63.3 to 75.9 %)."
        in text
    )
    assert "Of 39 source test images, 92.3 % were labelled correctly" in text
    assert text.index("Target accuracy") < text.index("Source test accuracy")
    assert "◆ One seed cannot tell" in text
    assert "cdan: +10.0 points on one seed, which cannot tell a gain from chance." in text
    assert "cdan gained" not in text
    assert "Confusion on the test split of the labelled source" in text
    assert "Source validation accuracy" in text
    content = adapted(0.7, (0, 1))
    assert "▲ cdan gained" in shown(tmp_path, content).text


def test_a_target_without_labels_has_no_accuracy(tmp_path):
    text = shown(tmp_path, adapted(None)).text
    assert (
        "How accurate the model is on the target is not known: no label of the target was given."
        in text
    )
    assert (
        "On the labelled source: of 39 source test images, 92.3 % were labelled correctly" in text
    )
    assert "Target accuracy" not in text
    assert "Accuracy on the target not known" in re.sub(r"(target)(not)", r"\1 \2", text)


def test_the_page_and_the_card_hold_no_folders_of_this_machine(tmp_path):
    content = adapted(0.7)
    content |= {
        "command": "graft train domain-adaptation --data /home/alice/my photos --out=/srv/runs/x --weights ~/w.h5",
        "config": {
            "data": "/home/alice/my photos",
            "out": "/srv/runs/x",
            "fit": {"table": ["/srv/t.csv"]},
        },
    }
    content["data"] |= {
        "source": "/home/alice/my photos",
        "skipped": ["'/home/alice/my photos/cat/1 2.jpg' is no picture (/srv/x)"],
    }
    content["backbone"]["weights"] |= {"spec": "/home/alice/w.h5", "file": "/home/alice/w.h5"}
    run = make_run(tmp_path / "run", content)
    manifest = json.loads((run / "export" / "manifest.json").read_text())
    manifest["files"][2]["error"] = "cannot write '/srv/runs/x/savedmodel'"
    manifest |= {
        "measured_on": {"split": "validation", "examples": 64, "source": "/home/alice/my photos"}
    }
    manifest |= {
        "machine": "Linux",
        "inputs": [],
        "outputs": [{"name": "probabilities", "kind": "single_label"}],
    }
    (run / "export" / "manifest.json").write_text(json.dumps(manifest | {"calibration": None}))
    report.write(run)
    card.write(run, run / "export")
    for text in ((run / "report.html").read_text(), (run / "export" / "MODEL_CARD.md").read_text()):
        for folder in ("/home", "alice", "/srv", "~/", str(tmp_path)):
            assert folder not in text, folder
    text = Page((run / "report.html").read_text()).text
    assert "graft train domain-adaptation --data my photos --out=x --weights w.h5" in text
    assert "'1 2.jpg' is no picture (x)" in text
    assert "'a b.jpg' cannot be read" in text
    assert "cannot write 'savedmodel'." in text


def test_columns_of_a_history_are_no_markup(tmp_path):
    """Before, the name of a column became the id of a curve as it was."""
    content = facts()
    make_run(tmp_path / "run", content)
    history = tmp_path / "run/history.csv"
    text = history.read_text().replace("val_loss", '"val_loss""><script>alert(1)</script>"')
    history.write_text(text.replace(",loss,", ',"loss""><script>alert(1)</script>",'))
    assert "<script>alert" not in report.write(tmp_path / "run").read_text()


def test_text_of_a_run_neither_links_nor_formats_a_card(tmp_path):
    """Before, names of papers, licences, schedules and phases stood in the card as they were."""
    evil = "[x](http://evil.example) <img src=http://evil.example/p.png>\n\n# owned"
    content = facts()
    content["backbone"] |= {"paper": evil, "licence": evil}
    content["schedule"]["name"] = content["schedule"]["phases"][0]["name"] = evil
    content["data"]["decode"] = {"library": evil, evil: 1}
    make_run(tmp_path / "run", content)
    manifest = files_of(row_of(measured("probabilities", "accuracy", "accuracy", 0.9)))
    manifest["files"][0]["precision"] = evil
    (tmp_path / "run/export/manifest.json").write_text(json.dumps(manifest))
    written = card.write(tmp_path / "run", tmp_path / "run/export").read_text()
    body = written.split("---", 2)[2]
    assert "evil" in body
    assert "<img" not in body
    assert "http://" not in body
    assert "\n# owned" not in body


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("https://a.b/c/d.h5 and 1/2 m/s and/or <b>", "https://a.b/c/d.h5 and 1/2 m/s and/or <b>"),
        ("--data ../photos runs/a train/x.png", "--data ../photos runs/a train/x.png"),
        (
            "net@/srv/w.h5 ../home/bob/photos/x.jpg --x=../home/bob/p/q.csv",
            "net@w.h5 x.jpg --x=q.csv",
        ),
        (r"C:\Users\bob\x.h5 is gone", "x.h5 is gone"),
        ("/ is full", "/ is full"),
    ],
)
def test_only_folders_of_the_machine_are_cut(text, short):
    assert without_folders(text) == short


def test_nothing_is_lost_by_minus_nought():
    assert [wording.points(value) for value in (-0.04, 0.0, -0.06, 12.345)] == [
        "+0.0",
        "+0.0",
        "-0.1",
        "+12.3",
    ]


def measured(output, figure, key, value, status="pass", **more):
    return {
        "output": output,
        "figure": figure,
        "key": key,
        "value": value,
        "interval": None,
        "reference": value,
        "drop_points": 0.25,
        "drop_interval": [-0.5, 1.5],
        "calibration_error": None,
        "examples": 64,
        "truth": "labels",
        "status": status,
        "passed": status == "pass",
        "undecided": status == "undecided",
        "enough_examples": None,
    } | more


def files_of(*rows):
    """A manifest of schema 3."""
    parity = {
        "max_abs_diff": 1e-6,
        "batch_1_diff": 3.5e-5,
        "agreement": 1.0,
        "examples": 64,
        "passed": True,
    }
    whole = [
        {
            "format": "tflite",
            "path": f"model{i}.tflite",
            "precision": "float32",
            "size_bytes": 1000 - i,
            "seconds": 1.0,
            "parity": parity,
            "sha256": "ab",
            **row,
        }
        for i, row in enumerate(rows)
    ]
    return {
        "schema": 3,
        "files": whole,
        "measured_on": {"split": "validation", "examples": 64},
        "machine": "Linux",
        "inputs": [{"name": "image"}],
        "outputs": [{"name": "probabilities", "kind": "single_label"}],
        "calibration": None,
    }


def row_of(accuracy, **more):
    return {"status": accuracy["status"], "passed": accuracy["passed"], "accuracy": accuracy} | more


def test_a_file_is_passed_undecided_or_failed_with_its_interval(tmp_path):
    undecided = measured(
        "probabilities", "accuracy", "accuracy", 0.9, "undecided", enough_examples=1200
    )
    files = files_of(
        row_of(measured("probabilities", "accuracy", "accuracy", 0.9, interval=[0.8, 0.95])),
        row_of(undecided),
        row_of(measured("probabilities", "accuracy", "accuracy", 0.5, "fail")),
    )
    text = shown(tmp_path, facts(), files).text
    table = text[text.index("Exported files") :]
    assert "Validation accuracy" in table
    assert "✓ pass" in table
    assert "? undecided: 64 validation images cannot tell; about 1,200 would" in table
    assert "✗ FAIL" in table
    assert "-0.2 points -1.5 to +0.5" in re.sub(r"(points)(-)", r"\1 \2", table)
    assert "3.5e-05" in table, "the larger difference, that of single examples"
    assert "Exported file1 kB" in text.replace("file 1", "file1"), "passed ones alone count"
    lines = card.write(tmp_path, tmp_path / "export").read_text().splitlines()
    assert any(
        line.endswith("| latency | check |") and "| validation accuracy |" in line for line in lines
    )
    assert [line.rsplit("| ", 1)[1] for line in lines if line.startswith("| `model")] == [
        "pass |",
        "undecided: 64 validation images cannot tell; about 1,200 would |",
        "FAIL |",
    ]


def test_every_task_of_a_file_has_its_name_and_its_figure(tmp_path):
    """Not the agreement of the numbers with Keras, called accuracy, while the images' task stands
    at 56.7 %.
    """
    content = two_tasks(facts(), "price", {"examples": 39, "r2": 0.81, "per_class": {}})
    outputs = {
        "kind": measured("kind", "accuracy", "accuracy", 0.567, "undecided", interval=[0.5, 0.6]),
        "price": measured("price", "R²", "r2", 0.81, interval=[-0.22, 0.9]),
    }
    files = files_of(row_of(outputs["kind"], accuracy_of_outputs=outputs))
    files["outputs"] = [
        {"name": "kind", "kind": "single_label"},
        {"name": "price", "kind": "regression"},
    ]
    text = shown(tmp_path, content, files).text
    table = text[text.index("Exported files") :]
    for words in (
        "Validation figure",
        "kind",
        "accuracy 56.7 %",
        "price",
        "R² 0.81",
        "-0.22 to 0.90",
    ):
        assert words in table, words
    written = card.write(tmp_path, tmp_path / "export").read_text()
    assert (
        "| `model0.tflite` | kind | float32 | 0.00 MB | accuracy 56.7 % (50.0 to 60.0) |" in written
    )
    assert "| `model0.tflite` | price | float32 | 0.00 MB | R² 0.81 (-0.22 to 0.90) |" in written


def test_a_phase_names_the_figure_that_it_watched(tmp_path):
    content = facts()
    _, second = content["schedule"]["phases"]
    del second["best_validation_accuracy"]
    second |= {
        "watched": "entity F1",
        "best_validation_watched": 0.456,
        "best_validation_loss": 1.5,
    }
    text = shown(tmp_path, content).text
    assert "Best validation accuracy" not in text
    assert "Kept epoch, on validation images" in text
    assert "accuracy 80.0 %epoch 2" in text.replace(" epoch 2", "epoch 2")
    assert "entity F1 45.6 %" in text


KEPT = {
    "phase": "head",
    "epoch": 2,
    "of_all": 2,
    "watched": "validation loss",
    "value": 1.25,
    "rule": "best",
}


def test_the_kept_epoch_is_marked_and_said(tmp_path):
    """Before, nothing said which epoch of which phase the model is."""
    seen = page(make_run(tmp_path / "run", facts() | {"kept": KEPT}))
    assert (
        "The upright line marks what was kept: epoch 2 of head, the best one by validation loss "
        "1.25." in seen.text
    )
    curves = [
        a["aria-label"] for a in seen.all("div") if "against the epoch" in a.get("aria-label", "")
    ]
    assert len(curves) == 2
    assert all(label.endswith(" Kept: epoch 2.") for label in curves)
    share = {"watched": "validation entity F1", "value": 0.456, "rule": "last", "adapted": "adabn"}
    told = report_training.kept_epoch({"kept": KEPT | share})["text"]
    assert told.replace("\u202f", " ") == (
        "epoch 2 of head, the last one, which no validation figure chose (validation entity F1 "
        "45.6 %); adabn adapted it "
        "afterwards"
    )
    assert "upright line" not in page(make_run(tmp_path / "older", facts())).text, (
        "a run of an older Graft"
    )


@pytest.mark.parametrize("wrong", [{"epoch": "2"}, {"value": None}, {"of_all": None}, {"phase": 3}])
def test_a_damaged_kept_epoch_is_one_line(wrong, tmp_path):
    make_run(tmp_path, facts() | {"kept": KEPT | wrong})
    if None in wrong.values():
        (tmp_path / "run.json").write_text(
            json.dumps(facts() | {"kept": {k: v for k, v in KEPT.items() if k not in wrong}})
        )
    with pytest.raises(ArtifactError):
        report.write(tmp_path)


def test_a_tagger_has_the_accuracy_of_its_tags_and_an_entity_f1():
    assert wording.metric_name("accuracy", "f1") == "token accuracy"
    assert wording.metric_name("slots_accuracy", "f1") == "slots: token accuracy"
    assert (
        wording.metric_name("like_binary_accuracy", "average_precision") == "like: binary accuracy"
    )
    assert wording.metric_name("token_accuracy", "f1") == "token accuracy"
    assert wording.metric_name("kind_accuracy", "accuracy") == "kind: accuracy"
    assert wording.metric_name("my_task_loss", "") == "my_task: loss"


def test_a_label_without_pictures_is_named_and_has_no_figures(tmp_path):
    matrix = np.diag([9, 9, 9, 0])
    content = facts(matrix=matrix)
    content["data"]["splits"]["test"]["per_label"]["日本"] = 0
    (tmp_path / "run.json").write_text(json.dumps(content))
    text = page(tmp_path).text
    assert "the test split has no image of 日本" in text
    table = text[text.index("Label by label") :]
    assert re.search(r"日本\s*–\s*–\s*–\s*0", table)


def test_writing_again_gives_the_same_page_and_adds_the_export(tmp_path):
    run = make_run(tmp_path / "run", facts())
    first = report.write(run).read_bytes()
    assert report.write(run).read_bytes() == first
    (run / "export" / "manifest.json").unlink()
    assert "model.tflite" not in page(run).text
    assert "model.tflite" in first.decode()


def test_swept_learning_rates_and_the_price_of_a_phase_are_shown(tmp_path):
    content = facts()
    first, second = content["schedule"]["phases"][:2]
    sweep = {"rates": [1e-6, 1e-4, 1e-2], "losses": [2.0, 1.5, 3.0], "suggested": 1.2e-4}
    first |= {"rate_finder": sweep, "images_per_second": 1234.5, "cached": True}
    second |= {
        "rate_finder": {**sweep, "suggested": None},
        "images_per_second": 12.0,
        "cached": False,
    }
    shown = page(make_run(tmp_path / "run", content))
    assert not shown.broken
    for part in (
        f"{first['name']}: 1.2e-04",
        "1,234 images/s",
        "frozen blocks cached",
        "12 images/s",
    ):
        assert part in shown.text
    labels = [attributes.get("aria-label", "") for attributes in shown.all("div")]
    assert "Loss against the learning rate. Suggested: 1.2e-04." in labels
    assert "Loss against the learning rate. The loss never fell." in labels


def test_many_labels_and_large_pictures_stay_small(tmp_path):
    """A hundred labels are all shown; of a thousand, those that matter; below two megabytes either
    way.
    """
    for count in (100, 1000):
        labels = [f"label number {i}" for i in range(count)]
        matrix = np.diag(np.full(count, 30))
        matrix[count - 1, 0] = 5
        run = make_run(tmp_path / str(count), facts(labels, matrix), size=100)
        path = report.write(run)
        assert path.stat().st_size < 2_000_000
        text = Page(path.read_text()).text
        grid = text[text.index("true label ↓ predicted →") : text.index("Most frequent confusions")]
        shown = min(count, report.MOST_LABELS)
        assert len(set(re.findall(r"label number \d+", grid))) == shown
        assert f"label number {count - 1}" in grid
        assert (f"labels of {count} that have most to do with mistakes" in text) == (count > shown)


def test_long_labels_give_way_to_numbers(tmp_path):
    labels = ["x" * 33, "y", "z"]
    (tmp_path / "run.json").write_text(json.dumps(facts(labels)))
    assert re.search(r"true label ↓ predicted → 1 2 3 1 x{33}", page(tmp_path).text)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("run.json", b"{"),
        ("run.json", b'{"schema": 1}'),
        ("run.json", b'{"schema": 2}'),
        ("export/manifest.json", b"{"),
        ("mistakes.npz", b"no archive"),
        ("samples.npz", b""),
        ("history.csv", b"epoch,phase,loss\n1,head,much\n"),
        ("history.csv", b"\xff\xfe"),
    ],
)
def test_a_damaged_file_is_named_in_one_line(tmp_path, name, content):
    run = make_run(tmp_path / "run", facts())
    (run / name).write_bytes(content)
    with pytest.raises(ArtifactError) as error:
        report.write(run)
    assert str(run) in str(error.value)
    assert "\n" not in str(error.value)
    assert not (run / "report.html").exists()


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match=re.escape(str(tmp_path))):
        report.write(tmp_path)


def test_a_figure_that_is_not_known_breaks_nothing(tmp_path, capsys):
    """One test answer of a task of numbers has no R²."""
    age = {"examples": 1, "mean_absolute_error": 2.0, "r2": None, "per_class": {}}
    content = two_tasks(facts(), "age", age)
    content["test_by_seed"] *= 2
    content["sharing"] = [verdicts.sharing("age", "r2", [None, None], [None, None])]
    run = make_run(tmp_path / "run", content)
    page = Page(report.write(run).read_text())
    assert "On test images: kind accuracy 92.3 % (39 answers), age R² – (1 answer)." in page.text
    assert "age: too few test answers to say whether sharing helps." in page.text
    Supervised().tell(run)
    assert "test age R² not known\n" in capsys.readouterr().out
    assert [m.title for m in headline.measures(content)] == ["Test kind accuracy", "Test age R²"]


def test_wilson_interval():
    """Against the roots of the equation that defines it: |share - p| = z sqrt(p (1 - p) / n)."""
    for right, examples in ((0, 10), (3, 10), (338, 372), (50, 50)):
        low, high = wilson(right / examples, examples)
        assert 0 <= low < high <= 1
        assert low - 1e-12 <= right / examples <= high + 1e-12
        for p in (low, high):
            if 1e-9 < p < 1 - 1e-9:
                assert abs(right / examples - p) == pytest.approx(
                    1.959964 * np.sqrt(p * (1 - p) / examples), rel=1e-6
                )


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "–"),
        (0.25, "0.25 s"),
        (42.4, "42 s"),
        (89.4, "89 s"),
        (89.6, "1 min 30 s"),
        (151, "2 min 31 s"),
        (3599.7, "1 h 0 min"),
        (7320, "2 h 2 min"),
    ],
)
def test_durations(seconds, words):
    assert wording.duration(seconds).replace("\u202f", " ") == words


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (None, "–"),
        (0, "0 B"),
        (999, "999 B"),
        (999_400, "999 kB"),
        (999_900, "1 MB"),
        (9_112_345, "9.11 MB"),
    ],
)
def test_sizes(size, words):
    assert wording.byte_size(size).replace("\u202f", " ") == words


def test_a_curve_draws_both_lines_and_takes_the_colours_of_the_page():
    nan = float("nan")
    svg = curves.curve(
        "loss",
        [3, 2, 1],
        [3, nan, 2],
        ["$a$", "$a$", "second phase that has a very long name"],
        False,
    )
    root = ET.fromstring(svg)
    words = ["".join(node.itertext()) for node in root.iter() if node.tag.endswith("text")]
    assert {"$a$", "2", "training", "validation", "epoch"} <= set(words)
    for name in COLOURS:
        assert f"var(--{name})" in svg
    assert not re.search("#0[0-9a-f]0[0-9a-f]0", svg)
    assert "<style" not in svg
    assert "DOCTYPE" not in svg
    only = curves.curve("loss", [3, 2], [nan, nan], ["a", "a"], True)
    assert "validation" not in only
    ET.fromstring(curves.curve("loss", [0.5], [0.5], ["a"], True))
    assert "kept" not in svg
    marked = ET.fromstring(curves.curve("loss", [3, 2], [3, 2], ["a", "a"], False, kept=2))
    assert "kept" in {
        "".join(node.itertext()) for node in marked.iter() if node.tag.endswith("text")
    }


def test_pictures_are_small_files_of_the_right_shape():
    from PIL import Image

    def opened(made):
        return Image.open(io.BytesIO(base64.b64decode(made.uri.split(",")[1])))

    digits = np.random.default_rng(0).integers(0, 255, (8, 6, 3), np.uint8)
    exact = figures.thumbnail(digits, 96)
    assert exact.pixelated
    assert np.array_equal(np.asarray(opened(exact)), digits)
    photo = np.zeros((300, 150, 3), np.uint8)
    smaller = figures.thumbnail(photo, 96)
    assert (smaller.width, smaller.height, smaller.pixelated) == (48, 96, False)
    assert opened(smaller).size == (48, 96)
    heat = np.float32([[0, 0], [0, 1], [0, 0], [0, 0]])
    overlay = np.asarray(opened(figures.heat_thumbnail(photo, heat, 96)).convert("L"), int)
    assert overlay.shape == (96, 48)
    assert overlay[36, 40] > overlay[80, 5] + 60


def test_the_hottest_place_in_words():
    heat = np.zeros((6, 6))
    assert figures.hottest_place(heat) == "nowhere"
    heat[3, 2] = 1
    assert figures.hottest_place(heat) == "centre"
    heat[0, 5] = 2
    assert figures.hottest_place(heat) == "upper right"


def red_and_blue(scale):
    """A classifier of red against blue whose feature map is the picture in patches; logits grow
    with `scale`.
    """
    import keras

    from graft.zoo.graph.stack import stack
    from graft.zoo.heads.heads import single_label

    inputs = keras.Input((32, 32, 3), name="image")
    colours = keras.layers.Conv2D(2, 1, use_bias=False, name="colours")
    patches = keras.layers.AveragePooling2D(4, name="patches")(colours(inputs))
    model = stack(keras.Model(inputs, patches, name="patches_net"), [single_label(["red", "blue"])])
    colours.set_weights([np.float32([[[[1, 0], [0, 0], [0, 1]]]])])
    model.get_layer("probabilities_dense").set_weights(
        [scale * np.eye(2, dtype="float32"), np.zeros(2, "float32")]
    )
    return model


@pytest.fixture(scope="module")
def two_patches():
    """A red patch at the upper left (map cell 1, 2), a smaller blue one at the lower right (6,
    5).
    """
    picture = np.zeros((1, 32, 32, 3), "float32")
    picture[0, 4:8, 8:12, 0] = 255
    picture[0, 24:27, 20:23, 2] = 255
    return picture


def test_grad_cam_is_hot_where_the_class_was_decided(two_patches):
    both = np.repeat(two_patches, 2, axis=0)
    maps = explain.grad_cam(red_and_blue(0.1), both, np.array([0, 1]))
    assert maps.shape == (2, 8, 8)
    assert maps.dtype == np.float32
    for heat, place in zip(maps, [(1, 2), (6, 5)], strict=True):
        assert np.unravel_index(heat.argmax(), heat.shape) == place
        assert heat.max() == 1
        assert heat.sum() == pytest.approx(1), "everywhere else it is cold"


def test_grad_cam_explains_a_prediction_that_is_certain(two_patches):
    """At probability 1 the gradient of the probability is 0; that of the logit is not."""
    model = red_and_blue(1000.0)
    assert model(two_patches).numpy()[0, 0] == 1
    assert explain.grad_cam(model, two_patches, np.array([0]))[0, 1, 2] == 1


def test_grad_cam_takes_more_pictures_than_a_step_and_none(monkeypatch, two_patches):
    monkeypatch.setattr(explain, "BATCH", 2)
    model = red_and_blue(0.1)
    many = np.concatenate([two_patches, np.zeros_like(two_patches), two_patches])
    maps = explain.grad_cam(model, many, np.array([0, 0, 1]))
    assert [figures.hottest_place(heat) for heat in maps] == [
        "upper left",
        "nowhere",
        "lower right",
    ]
    assert explain.grad_cam(model, many[:0], np.array([], int)).shape == (0, 8, 8)


def test_grad_cam_after_saving_and_of_a_real_architecture(tmp_path, tiny_model):
    import keras

    _, model = tiny_model
    pictures = np.random.default_rng(0).uniform(0, 255, (3, 16, 16, 3)).astype("float32")
    maps = explain.grad_cam(model, pictures, np.array([0, 1, 2]))
    assert maps.shape == (3, 8, 8)
    assert set(maps.max((1, 2)).tolist()) <= {0.0, 1.0}
    assert maps.min() >= 0
    model.save(tmp_path / "model.keras")
    again = explain.grad_cam(
        keras.models.load_model(tmp_path / "model.keras"), pictures, np.array([0, 1, 2])
    )
    np.testing.assert_allclose(again, maps, atol=1e-6)


def test_grad_cam_refuses_what_it_cannot_explain(two_patches):
    import keras

    from graft.zoo.graph.stack import stack
    from graft.zoo.heads.heads import embedding, single_label

    model = red_and_blue(0.1)
    with pytest.raises(ConfigError, match="class -1 to 2"):
        explain.grad_cam(model, np.repeat(two_patches, 2, 0), np.array([-1, 2]))
    with pytest.raises(ConfigError, match="one class an image"):
        explain.grad_cam(model, two_patches, np.array([0, 1]))
    inputs = keras.Input((4,))
    flat = keras.Model(inputs, keras.layers.Dense(3)(inputs))
    with pytest.raises(ConfigError, match="feature map"):
        explain.grad_cam(stack(flat, [single_label(["a", "b"])]), np.zeros((1, 4)), np.array([0]))
    with pytest.raises(ArtifactError, match="features"):
        explain.grad_cam(flat, np.zeros((1, 4)), np.array([0]))
    two = stack(flat, [single_label(["a", "b"]), single_label(["c", "d"], name="other")])
    with pytest.raises(ConfigError, match="one head"):
        explain.grad_cam(two, np.zeros((1, 4)), np.array([0]))
    image = keras.Input((8, 8, 3))
    spatial = keras.Model(image, keras.layers.Conv2D(2, 3)(image))
    with pytest.raises(ArtifactError, match="UnitNormalization"):
        explain.grad_cam(stack(spatial, [embedding(2)]), np.zeros((1, 8, 8, 3)), np.array([0]))
