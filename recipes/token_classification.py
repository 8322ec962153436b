r"""Token classification: words with tags in (named entities, slots, parts of speech), a trained and
verified model out.

    graft train token-classification --data entities/ --out runs/entities
    python recipes/token_classification.py --data train.conll --backbone all-MiniLM-L6-v2/ \
        --out runs/entities

Tags are IOB2 (Ramshaw and Marcus 1995, cmp-lg/9505040). A word's tag is learned by its first piece
(Devlin et al. 2019, arXiv:1810.04805); precision, recall and F1 are those of whole entities, as
`seqeval` counts them.

Expected results: benchmarks/results/text.md.
"""

from dataclasses import dataclass
from pathlib import Path

from graft.recipes.runs.options import TextConfig


@dataclass(frozen=True)
class Config(TextConfig):
    """Train a tagger of words from a pretrained encoder."""

    schedule: str = "full"
    """feature_extraction, fine_tune, gradual_unfreeze, probe_then_tune, full, lora, bias or
    scratch.
    """


def main(config: Config) -> Path:
    """Train, evaluate, write the run directory and print the outcome; returns the directory."""
    from graft.recipes.data import sentences
    from graft.recipes.data.prepared import PreparedData
    from graft.recipes.runs import experiment
    from graft.recipes.runs.backbones import TextBackbone
    from graft.recipes.runs.supervised import Supervised
    from graft.recipes.tasks.group import Tasks
    from graft.recipes.tasks.tagging import TaggingTask
    from graft.zoo.heads import heads

    config.check()
    backbone = TextBackbone.chosen(config)
    source = sentences.load(config.data, need=("tags",), columns=config.columns)
    data = PreparedData.of(source, config)
    head = heads.tags(sentences.tag_names(source), dropout=config.dropout)
    tasks, training = Tasks((TaggingTask(head),)), Supervised(config.compare_scratch)
    config.check_tasks(tasks)
    phases = backbone.phases(config, len(data.splits["train"]))
    problem = experiment.Problem("token-classification", data, tasks, backbone, phases, training)
    return experiment.run(problem, config)


if __name__ == "__main__":
    import tyro

    from graft.recipes.runs.writing import exit_code

    raise SystemExit(exit_code(main(tyro.cli(Config))))
