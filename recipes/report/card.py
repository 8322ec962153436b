"""MODEL_CARD.md beside the exported files: who may use them for what, and what was measured.

The sections follow Mitchell et al. 2019 (Model Cards for Model Reporting, arXiv:1810.03993); the
front matter is the one that the Hugging Face Hub reads.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from graft.recipes.report import headline, wording
from graft.recipes.report.drawing.templates import page_templates
from graft.recipes.report.report import NOUNS
from graft.recipes.report.report_files import figure_names, file_rows, measured_noun
from graft.recipes.report.run_file import read_run, task_figures
from graft.recipes.report.shareable import file_name, shareable
from graft.recipes.tasks.table import find_task
from graft.zoo.files.guards import one_line_if_damaged
from graft.zoo.files.writing import write_text
from graft.zoo.fits import ImageShape
from graft.zoo.heads.table import find_kind
from graft.zoo.shown import markdown, markdown_code, shown

if TYPE_CHECKING:
    from jinja2 import Template

__all__ = ["NAME", "write"]

NAME = "MODEL_CARD.md"

HUB_LICENCES = {
    "Apache-2.0": "apache-2.0",
    "MIT": "mit",
    "CC BY 4.0": "cc-by-4.0",
    "CC-BY-4.0": "cc-by-4.0",
}
"""Our names of licences -> the Hub's; any other is "other", with its name beside it."""


HUB_TASKS = {
    "text-similarity": "sentence-similarity",
    "segmentation": "image-segmentation",
    "text-multitask": "text-classification",
    "text-domain-adaptation": "text-classification",
    "domain-adaptation": "image-classification",
    "semi-supervised": "image-classification",
    "multitask": "image-classification",
}
"""Recipes -> the Hub's names of tasks, where they differ."""

SORTS = {
    "image-classification": "An image classifier",
    "object-detection": "An object detector",
    "segmentation": "A model that names the class of each pixel",
    "domain-adaptation": "An image classifier, adapted to a domain without labels,",
    "semi-supervised": "An image classifier, trained with few labels,",
    "text-domain-adaptation": "A text classifier, adapted to a domain without labels,",
    "multitask": "A model of several tasks on images, named by the first,",
    "text-classification": "A text classifier",
    "token-classification": "A tagger of words",
    "text-similarity": "An embedding of sentences, trained",
    "text-multitask": "A model of intents and slots",
}


def write(run: Path, folder: Path) -> Path:
    """Write `folder`/MODEL_CARD.md from run.json and from the manifest in `folder`; returns its
    path.
    """
    from graft.export.manifest import read_manifest

    environment = page_templates(escape=False)
    environment.filters |= {
        # Labels and file names come with the data: they neither format, nor link, nor end a table.
        "cell": markdown,
        "code": markdown_code,
        "quoted": lambda value: json.dumps(shown(value), ensure_ascii=False),
        "percent": lambda share: wording.percent(share).replace("\u202f", " "),
        "as_measured": lambda value, key="": wording.as_measured(value, key).replace("\u202f", " "),
        "points": wording.points,
        "span": wording.span,
        "duration": lambda seconds: wording.duration(seconds).replace("\u202f", " "),
    }
    facts, exported = read_run(run), read_manifest(folder)
    with one_line_if_damaged(Path(run) / "run.json"):
        text = _card(environment.get_template("model_card.md.jinja"), run, facts, exported)
    write_text(folder / NAME, text)
    return folder / NAME


def _image_shape(data: Mapping) -> ImageShape | None:
    """Of the images of a run, by its run.json's "data"; None: it is of texts."""
    if data.get("image_size") is None:
        return None
    return ImageShape.of(data["image_size"], (data.get("decode") or {}).get("channels", 3))


def _card(template: "Template", run: Path, facts: Mapping, exported: Mapping) -> str:
    # The card goes with the files to other people: names, not the folders of this machine.
    facts = shareable(facts)
    noun = NOUNS[facts["modality"]]
    files = file_rows(exported, noun)
    measured = headline.measures(facts)
    return template.render(
        run=facts,
        shape=_image_shape(facts["data"]),
        of_texts="tokenizer" in exported.get("preprocessing", {}),
        meanings={
            name: find_task(facts["kind"]).meaning for name, facts in exported["tasks"].items()
        },
        named=[name for name, facts in exported["tasks"].items() if find_kind(facts["kind"]).named],
        noun=noun,
        sort=SORTS.get(facts["recipe"], "A model"),
        hub_task=_hub_task(facts),
        measures=[measure for measure in measured if measure.value is not None],
        further=_further(facts),
        lead=headline.lead(facts, measured, noun).replace("\u202f", " "),
        comparisons=_comparisons(facts),
        adapted=[
            wording.judgement(said, method)["text"] for method, said in _verdicts(facts).items()
        ],
        split_name="source test" if headline.adapts_to_target(facts) else "test",
        per_class=_per_class(facts["metrics"]["test"]),
        name=Path(run).resolve().name,
        manifest=exported,
        files=files,
        figure_title=_figure_title(exported, files),
        several=any(len(file["outputs"]) > 1 for file in files),
        several_figures=len(figure_names(files)) > 1,
        measured_noun=measured_noun(exported, noun),
        licence=_licence(facts["backbone"]),
        source=file_name(facts["data"]["source"]),
        target=facts["data"].get("target", {"source": ""})["source"],
        weights=file_name(facts["backbone"]["weights"]["spec"]),
    )


def _hub_task(facts: Mapping) -> str:
    """The Hub's name of what a run is for; it does not know the recipes of other packages."""
    recipe = facts["recipe"]
    known = recipe if recipe in SORTS else f"{facts['modality']}-classification"
    return HUB_TASKS.get(recipe, known)


def _comparisons(facts: Mapping) -> list[str]:
    """What transfer and sharing gained or lost, and how counted words do, a sentence each, without
    a full stop.
    """
    said = [wording.judgement(shared, "Sharing")["text"] for shared in facts.get("sharing", ())]
    if facts.get("verdict"):
        text = wording.verdict_text(facts["verdict"])
        said.append(
            f"Against the same architecture from random weights: {text[:1].lower()}{text[1:]}"
        )
    if facts.get("counted_words"):
        text = facts["counted_words"]["text"]
        said.append(f"{text[:1].upper()}{text[1:]}")
    return said


def _verdicts(facts: Mapping) -> Mapping:
    return facts.get("adaptation", {}).get("verdicts", {})


def _figure_title(exported: Mapping, files: Sequence[Mapping]) -> str:
    """The heading of the column with the figures: "validation accuracy"."""
    names = figure_names(files)
    split = exported["measured_on"].get("split")
    return " ".join(filter(None, (split, names[0] if len(names) == 1 else "figure")))


def _licence(backbone: Mapping) -> Mapping:
    """The licence of the weights that training started from; from random weights there is none to
    pass on.
    """
    if backbone["weights"]["spec"] == "none":
        return {"hub": "unknown", "name": None}
    name = backbone["licence"]
    return {"hub": HUB_LICENCES.get(name, "other"), "name": name}


def _further(facts: Mapping) -> list[str]:
    """The figures of each task beside the one that it is judged by, a line each."""
    test = facts["metrics"]["test"]
    parts = zip(task_figures(test).items(), headline.heads_of(facts), strict=False)
    lines = [
        (task, wording.further_text(measured, head["key"])) for (task, measured), head in parts
    ]
    return [
        f"{task}: {text}" if task else text[:1].upper() + text[1:] for task, text in lines if text
    ]


def _per_class(test: Mapping) -> dict:
    """Label by label; of several tasks one after the other."""
    tables = task_figures(test)
    return {
        f"{task}: {label}" if task else label: row
        for task, part in tables.items()
        for label, row in part["per_class"].items()
    }
