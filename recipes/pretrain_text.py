r"""The bundled text encoder: a small BERT, distilled from the sentence embeddings of a larger one.

    GRAFT_DATA=... python benchmarks/text_corpus.py build/text
    graft train pretrain-text --corpus build/text/corpus.txt --teacher all-MiniLM-L6-v2/ \
        --out build/encoder

The vocabulary is learned from the corpus; the mean of the student's token vectors learns to point,
after a linear map that is thrown away, where the teacher's mean points (Reimers and Gurevych 2020,
arXiv:2004.09813). The result is a preset of KerasHub, weights in float16. What it is worth:
zoo/bundled/graft_mini_en/README.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from graft.recipes.codecs.texts import Texts
    from graft.zoo.text import Tokenizer

PLACE = "place"
"""The targets that say which line a text is."""


@dataclass(frozen=True)
class Config:
    """Make the bundled text encoder anew."""

    corpus: Path
    """A text file, one text a line."""
    teacher: str
    """An encoder by name, or the folder of one."""
    out: Path
    """The folder to make."""
    vocabulary: int = 8000
    """Word pieces."""
    layers: int = 2
    width: int = 128
    max_length: int = 128
    """Tokens, special ones included."""
    epochs: int = 12
    batch_size: int = 64
    learning_rate: float = 2e-3
    """Peak rate of AdamW."""
    seed: int = 0
    overwrite: bool = False
    """Replace the folder if it exists."""


def main(config: Config) -> Path:
    """Learn the vocabulary, ask the teacher, train, write; returns the folder."""
    import json

    import keras
    import keras_hub
    import numpy as np

    from graft.recipes.codecs.targets import Ragged
    from graft.recipes.codecs.texts import Texts, sorted_texts
    from graft.recipes.runs import run_facts
    from graft.recipes.tasks.table import tasks_for
    from graft.recipes.train import fit, schedule
    from graft.recipes.train.settings import FitSettings, check_numbers
    from graft.zoo import vocabularies
    from graft.zoo.backbones import encoder_table, encoders, weights
    from graft.zoo.files.leases import hold_lease
    from graft.zoo.files.staging import staged_folder
    from graft.zoo.graph.stack import stack
    from graft.zoo.graph.state import set_seed
    from graft.zoo.heads.embedding import EMBEDDING
    from graft.zoo.heads.head import Head
    from graft.zoo.terminal import say

    check_numbers(config)
    lines = vocabularies.read_vocabulary(config.corpus)
    teacher_row = encoders.find_encoder(config.teacher)
    pieces = vocabularies.learn_word_pieces(lines, config.vocabulary)
    tokenizer = vocabularies.word_piece_tokenizer(pieces, lowercase=True)
    say(f"{len(lines):,} texts, {len(pieces):,} word pieces")

    def encoded(tokenizer: Tokenizer, inputs: Sequence[str]) -> Texts:
        ids, cut = tokenizer.encode(lines, config.max_length)
        places = {PLACE: np.arange(len(lines))}
        texts = Texts(
            Ragged.of(ids),
            places,
            tuple(lines),
            tuple(lines),
            tuple(inputs),
            tokenizer.pad_id,
            config.max_length,
            cut,
        )
        return sorted_texts(texts)

    mean = Head(PLACE, EMBEDDING, (), lambda features: features, None, list, None)
    teacher = encoders.build_encoder(teacher_row)
    asked = encoded(encoders.load_tokenizer(teacher_row), [t.name for t in teacher.inputs])
    vectors = fit.predict(stack(teacher, [mean]), asked)[0]
    wanted = np.zeros_like(vectors)
    wanted[asked.targets[PLACE]] = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)

    set_seed(config.seed)
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=len(pieces),
        num_layers=config.layers,
        num_heads=config.width // 32,
        hidden_dim=config.width,
        intermediate_dim=4 * config.width,
        max_sequence_length=config.max_length,
        num_segments=2,
        dropout=0.0,
    )
    student = keras.Model(
        [backbone.input[name] for name in encoder_table.ENCODER_INPUTS],
        backbone.output["sequence_output"],
    )
    head = Head(
        "embedding",
        EMBEDDING,
        (),
        lambda features: keras.layers.Dense(wanted.shape[-1], name="embedding")(features),
        lambda: keras.losses.CosineSimilarity(),
        list,
        None,
    )
    examples = encoded(tokenizer, encoder_table.ENCODER_INPUTS)
    chosen = np.random.default_rng(config.seed).permutation(len(lines)) < 1000
    splits = {
        name: _where(examples, part[examples.targets[PLACE]], wanted)
        for name, part in (("train", ~chosen), ("validation", chosen))
    }
    phases = (schedule.Phase("distil", "all", config.epochs, config.learning_rate),)
    settings = FitSettings(batch_size=config.batch_size, weight_decay=0.01, clip_norm=1.0)
    with hold_lease(config.out), staged_folder(config.out, config.overwrite) as folder:
        plan = fit.TrainPlan(
            lambda: stack(student, [head]), tasks_for(head), phases, [config.seed], settings
        )
        _, (trained,) = fit.train(plan, splits)
        backbone.save_to_preset(folder)
        keras_hub.models.BertTokenizer(
            vocabulary=pieces, lowercase=True, strip_accents=True
        ).save_to_preset(folder)
        weights.save_float16(backbone, folder / "model.weights.h5")
        figures = {
            "cosine": -trained.validation_loss,
            "train_seconds": round(trained.seconds),
            "size_bytes": (folder / "model.weights.h5").stat().st_size,
            "texts": len(lines),
            "config": run_facts.plain(config),
            "teacher": encoders.describe_encoder(teacher_row, "folder"),
            **run_facts.environment(),
            "sha256": weights.file_sha256(folder / "model.weights.h5"),
        }
        (folder / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
    print(
        f"cosine to the teacher {figures['cosine']:.3f}, {figures['size_bytes']:,} bytes, "
        f"{config.out}"
    )
    return config.out


def _where(texts: "Texts", chosen: "np.ndarray", wanted: "np.ndarray") -> "Texts":
    """The chosen ones of `texts`, with what the teacher says as targets."""
    from dataclasses import replace

    import numpy as np

    some = texts.take(np.flatnonzero(chosen))
    return replace(some, targets={"embedding": wanted[some.targets[PLACE]]})


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Config))
