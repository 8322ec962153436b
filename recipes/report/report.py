"""The report of a run: one HTML file with everything inside, made from nothing but the run's
folder.

Because it reads only what the run left behind, it can be made again at any time: `graft export`
does so to add its table of files. The page loads nothing (no scripts, no fonts, no images from
elsewhere), and every text that came with the data (labels, file names) is escaped.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from graft.export.manifest import MANIFEST_NAME, read_manifest
from graft.recipes.report import headline, wording
from graft.recipes.report import report_comparisons as comparisons
from graft.recipes.report import report_data as data
from graft.recipes.report import report_training as training
from graft.recipes.report.drawing import figures
from graft.recipes.report.drawing.templates import page_templates
from graft.recipes.report.report_data import MOST_LABELS
from graft.recipes.report.report_files import figure_names, file_rows, measured_noun
from graft.recipes.report.run_file import read_confusion, read_run, task_figures
from graft.recipes.report.shareable import file_name, shareable, without_folders
from graft.zoo.errors import ArtifactError, GraftError
from graft.zoo.files.reading import read_arrays, read_json
from graft.zoo.files.writing import write_text

__all__ = ["write"]

MOST_MISTAKES = 24
MISTAKE_SIDE, PLACE_SIDE = 144, 280
"""Pixels."""

Tree = Mapping[str, Any]

NOUNS = {"image": "image", "text": "sentence"}
"""What an example is called, by modality."""


def write(run: Path) -> Path:
    """Write `run/report.html` from the files in the folder `run`; returns its path.

    `run.json` is needed. `history.csv`, `samples.npz`, `mistakes.npz`, `places.npz` and
    `export/manifest.json` are shown when there.

    Raises:
        ArtifactError: `run.json` is missing, or one of the files cannot be read or lacks something.
    """
    run = Path(run)
    facts = read_run(run)
    try:
        text = _page(_context(run, facts))
    except GraftError:
        raise
    except Exception as error:  # whatever a template stumbles over
        reason = f"{type(error).__name__}: {error}"
        raise ArtifactError(
            f"the files in '{run}' do not hold what a report needs ({reason}): another version of "
            "Graft wrote them"
        ) from error
    # Names of files that are no UTF-8 come as lone surrogates, which cannot be written.
    write_text(run / "report.html", text.encode("utf-8", "replace").decode("utf-8"))
    return run / "report.html"


def _page(context: Tree) -> str:
    environment = page_templates()
    environment.filters |= {
        "percent": wording.percent,
        "as_measured": wording.as_measured,
        "duration": wording.duration,
        "points": wording.points,
        "span": wording.span,
        "size": wording.byte_size,
        "amount": wording.parameter_count,
        "image_size": wording.image_size,
        "figure": lambda value: "–" if value is None or math.isnan(value) else f"{value:,.4g}",
    }
    return environment.get_template("report.html.jinja").render(context)


def _context(run: Path, facts: Tree) -> Tree:
    facts = shareable(facts)
    text = data.sentences(facts, _if_there(read_json, run / "texts.json"))
    noun = NOUNS[facts["modality"]]
    labels = facts["data"]["labels"]
    split = headline.measured_split(facts)
    exports = run / "export"
    exported = read_manifest(exports) if (exports / MANIFEST_NAME).is_file() else None
    files = file_rows(exported, noun)
    found = headline.measures(facts)
    return {
        "run": facts,
        "noun": noun,
        "split": split,
        # What the tables of mistakes and of labels are about: the target has no labels to make them
        # of.
        "split_name": (
            f"{split} split{' of the labelled source' if headline.adapts_to_target(facts) else ''}"
        ),
        "lead": headline.lead(facts, found, noun),
        "summary": _summary(facts, found, files),
        "verdict": comparisons.verdict_section(facts.get("verdict")),
        "sharing": comparisons.sharing_rows(facts),
        "counted_words": comparisons.counted_words_section(facts.get("counted_words")),
        "data": data.splits_and_samples(facts, labels, _if_there(read_arrays, run / "samples.npz")),
        "text": text,
        "phases": training.phase_rows(facts),
        "curves": training.curves(training.read_history(run / "history.csv"), facts),
        "kept": training.kept_epoch(facts),
        "sweeps": training.sweep_curves(facts["schedule"]["phases"]),
        "confusion": _confusion(read_confusion(run, facts)),
        "per_class": _per_class(facts["metrics"][split] if split else None, labels),
        "further": _further(facts, split),
        "sections": facts.get("sections", ()),
        "mistakes": _mistakes(_if_there(read_arrays, run / "mistakes.npz"), labels),
        "places": _places(_if_there(read_arrays, run / "places.npz")),
        "adaptation": comparisons.adaptation_section(
            facts.get("adaptation"), _if_there(read_arrays, run / "map.npz")
        ),
        "export": files,
        "figure_names": figure_names(files),
        "measured_on": (exported or {}).get("measured_on"),
        "measured_noun": measured_noun(exported, noun),
        "machine": (exported or {}).get("machine"),
    }


def _summary(facts: Tree, found: Sequence[headline.Measure], export: Sequence[Tree]) -> Tree:
    phases = facts["schedule"]["phases"]
    # A file that did not pass its check may be small because its weights are missing.
    files = [file for file in export if file["check"]["status"] == "pass" and file["size_bytes"]]
    heads = headline.heads_of(facts)
    return {
        "source": file_name(facts["data"]["source"]),
        "seconds": facts["seconds"].get("train", facts["seconds"].get("total")),
        "judged": heads[0]["name"] if len(heads) == 1 else "mean of the tasks",
        "epochs": sum(phase.get("epochs_run") or 0 for phase in phases),
        "parameters": phases[-1]["total_parameters"] if phases else facts["backbone"]["parameters"],
        "smallest": min(files, key=lambda file: file["size_bytes"], default=None),
        "files": len(files),
        "measures": found,
        "target_unknown": headline.adapts_to_target(facts)
        and not any(m.where == "target" for m in found),
    }


def _confusion(confusion: Tree | None) -> Tree | None:
    if not confusion:
        return None
    labels, matrix = confusion["labels"], confusion["matrix"]
    if matrix.shape != (len(labels), len(labels)):
        raise KeyError(f"a confusion matrix of {len(labels)} x {len(labels)}, it is {matrix.shape}")
    return {"split": confusion["split"], **figures.confusion_table(matrix, labels, MOST_LABELS)}


def _per_class(metrics: Tree | None, labels: Sequence[str]) -> list[Tree]:
    """A table a task, a row a label, the lowest F1 first: what needs work is read first."""
    if not metrics:
        return []
    tables = []
    for task, measured in task_figures(metrics).items():
        per_class = measured["per_class"]
        if per_class:
            order = labels if set(per_class) <= set(labels) else per_class
            tables.append(
                {"task": task, "spans": "entities" in measured, **_label_rows(per_class, order)}
            )
    return tables


def _further(facts: Tree, split: str | None) -> list[Tree]:
    """The figures of each task beside the one that it is judged by."""
    if split is None:
        return []
    tasks = task_figures(facts["metrics"][split])
    found = [
        {
            "task": task,
            "figures": wording.further_figures(measured, head["key"]),
            "positive": measured.get("positive_class"),
        }
        for (task, measured), head in zip(tasks.items(), headline.heads_of(facts), strict=False)
    ]
    return [row for row in found if row["figures"]]


def _label_rows(per_class: Tree, labels: Sequence[str]) -> Tree:
    """Without examples a label has no figures."""
    rows = [{"label": label, **per_class[label]} for label in labels if label in per_class]
    for row in rows:
        if not row["examples"]:
            row |= {"precision": None, "recall": None, "f1": None}
    rows.sort(key=lambda row: (row["f1"] is None, row["f1"] or 0.0))
    return {"rows": rows[:MOST_LABELS], "all": len(rows)}


def _mistakes(mistakes: Tree | None, labels: Sequence[str]) -> list[Tree]:
    if not mistakes:
        return []
    heatmaps = mistakes.get("heatmaps")
    cards = []
    for index, image in enumerate(mistakes["images"][:MOST_MISTAKES]):
        heat = None if heatmaps is None else heatmaps[index]
        cards.append(
            {
                "image": figures.thumbnail(image, MISTAKE_SIDE),
                "heat": None if heat is None else figures.heat_thumbnail(image, heat, MISTAKE_SIDE),
                "hottest": None if heat is None else figures.hottest_place(heat),
                "truth": labels[mistakes["truth"][index]],
                "predicted": labels[mistakes["predicted"][index]],
                "probability": float(mistakes["probability"][index]),
                "name": without_folders(mistakes["names"][index]),
            }
        )
    return cards


def _places(places: Tree | None) -> list[Tree]:
    """Images with the truth on them, and with the answer."""
    if not places:
        return []
    rows = zip(places["truth"], places["predicted"], places["names"], strict=True)
    return [
        {
            "truth": figures.thumbnail(truth, PLACE_SIDE),
            "predicted": figures.thumbnail(predicted, PLACE_SIDE),
            "name": without_folders(name),
        }
        for truth, predicted, name in rows
    ]


def _if_there(read: Callable[[Path], Tree], path: Path) -> Tree | None:
    return read(path) if path.is_file() else None
