"""MODEL_CARD.md beside the exported files: who may use them for what, and what was measured.

The sections follow Mitchell et al. 2019 (Model Cards for Model Reporting, arXiv:1810.03993); the front matter is the one
that the Hugging Face Hub reads.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from recipes.engine.run import read as read_run
from zoo.files import write_text

__all__ = ["write"]

HUB_LICENCES = {"Apache-2.0": "apache-2.0", "MIT": "mit", "CC BY 4.0": "cc-by-4.0", "CC-BY-4.0": "cc-by-4.0"}
"""Our names of licences -> the Hub's; any other is "other", with its name beside it."""


HUB_TASKS = {
    "text-similarity": "sentence-similarity",
    "text-multitask": "text-classification",
    "text-domain-adaptation": "text-classification",
    "domain-adaptation": "image-classification",
    "semi-supervised": "image-classification",
    "multitask": "image-classification",
}
"""Recipes -> the Hub's names of tasks, where they differ."""

SORTS = {
    "image-classification": "An image classifier",
    "domain-adaptation": "An image classifier, adapted to a domain without labels,",
    "semi-supervised": "An image classifier, trained with few labels,",
    "text-domain-adaptation": "A text classifier, adapted to a domain without labels,",
    "multitask": "A model of several tasks on pictures, named by the first,",
    "text-classification": "A text classifier",
    "token-classification": "A tagger of words",
    "text-similarity": "An embedding of sentences, trained",
    "text-multitask": "A model of intents and slots",
}


def write(run: Path, folder: Path) -> Path:
    """Write `folder`/MODEL_CARD.md from run.json and from the manifest in `folder`; returns its path."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from export import manifest

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    # Labels and file names come with the data: a bar would end a cell, a newline the table.
    environment.filters["cell"] = lambda text: " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")
    environment.filters["quoted"] = lambda value: json.dumps(value, ensure_ascii=False)
    environment.filters["percent"] = lambda share: f"{100 * share:.1f} %"
    facts, files = read_run(run), manifest.read(folder)
    text = environment.get_template("model_card.md.jinja").render(
        run=facts,
        text=facts.get("modality") == "text",
        noun="sentence" if facts.get("modality") == "text" else "picture",
        sort=SORTS[facts["recipe"]],
        hub_task=HUB_TASKS.get(facts["recipe"], facts["recipe"]),
        measures=_measures(facts),
        per_class=_per_class(facts["metrics"]["test"]),
        name=Path(run).resolve().name,
        manifest=files,
        licence=_licence(facts["backbone"]),
        # The card goes with the files to other people: names, not the folders of this machine.
        source=Path(facts["data"]["source"]).name,
        target=Path(facts["data"].get("target", {"source": ""})["source"]).name,
        weights=Path(facts["backbone"]["weights"]["spec"]).name,
    )
    write_text(folder / "MODEL_CARD.md", text)
    return folder / "MODEL_CARD.md"


def _licence(backbone: Mapping) -> Mapping:
    """The licence of the weights that training started from; from random weights there is none to pass on."""
    if backbone["weights"]["spec"] == "none":
        return {"hub": "unknown", "name": None}
    name = backbone["licence"]
    return {"hub": HUB_LICENCES.get(name, "other"), "name": name}


def _measures(facts: Mapping) -> list[dict]:
    """What the model is judged by on test data: `{"name", "hub", "value"}`, one a task that has a figure."""
    test = facts["metrics"]["test"]
    heads = facts.get("measure", {}).get("heads", [{"name": "accuracy", "key": "accuracy"}])
    tasks = test.get("tasks", {"": test})
    return [
        {"name": f"{task} {head['name']}".strip(), "hub": head["key"], "value": figures[head["key"]]}
        for (task, figures), head in zip(tasks.items(), heads, strict=True)
        if figures[head["key"]] is not None
    ]


def _per_class(test: Mapping) -> dict:
    """Label by label; of several tasks one after the other."""
    if "tasks" not in test:
        return test["per_class"]
    return {f"{task}: {label}": row for task, part in test["tasks"].items() for label, row in part["per_class"].items()}
