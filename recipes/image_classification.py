"""Image classification: a folder of photos in, a trained and verified model out.

    graft train image-classification --data photos/ --out runs/photos
    python recipes/image_classification.py --data photos/ --out runs/photos

A pretrained backbone gets a new head and is trained through a freezing schedule (Yosinski et al. 2014, arXiv:1411.1792;
Kornblith et al. 2019, arXiv:1805.08974). With `--compare-scratch` the same architecture is trained from random weights
for the same number of epochs, and the run says what transfer gained or lost.

Expected results: benchmarks/results/clothing_small.md.
"""

from dataclasses import dataclass
from pathlib import Path

from recipes.engine.pipeline import Augmentation


@dataclass(frozen=True)
class Config:
    """Train an image classifier from a pretrained backbone."""

    data: str
    """A folder of class folders (or of splits), a .csv/.tsv/.jsonl table, tfds:NAME, or the built-in `digits`."""
    out: Path
    """The run directory to make."""
    backbone: str = "mobilenet_v2"
    """A name from `graft zoo`."""
    weights: str = "imagenet"
    """imagenet, bundled, none, or a path to a weights file."""
    schedule: str = "fine_tune"
    """feature_extraction, fine_tune, gradual_unfreeze, probe_then_tune, full or scratch."""
    epochs: int | None = None
    """Epochs in total, spread over the schedule's phases. Default: the schedule's own."""
    learning_rate: float | None = None
    """Peak rate of the last phase; the other phases are scaled alike. Default: the schedule's own."""
    image_size: int | None = None
    """Height and width in pixels. Default: the backbone's."""
    batch_size: int = 32
    """Pictures a step."""
    augment: tuple[Augmentation, ...] = ("flip", "crop")
    """Random changes to training pictures; write `--augment` alone for none."""
    dropout: float = 0.2
    """Before the head, 0 to 1."""
    weight_decay: float = 1e-4
    """AdamW's, on kernels only."""
    label_smoothing: float = 0.0
    """Share of the target that is spread over all classes."""
    class_weights: bool = False
    """Weight each class by the inverse of its frequency."""
    patience: int = 0
    """Stop a phase after so many epochs without a better validation loss; 0: never. The best epoch is kept either way."""
    per_class: int | None = None
    """Train on so many pictures of each class only (drawn by --split-seed)."""
    seeds: int = 1
    """Train so many times, with consecutive seeds; the run keeps the model with the best validation loss."""
    seed: int = 0
    """The first (or only) seed."""
    split_seed: int = 0
    """For splits that are missing in the data and have to be made."""
    compare_scratch: bool = False
    """Also train from random weights for as many epochs, and write the verdict."""
    mixed_precision: bool = False
    """Compute in 16 bits while training (float16 on a GPU, bfloat16 on a CPU); the saved model is float32."""
    skip_bad: bool = False
    """Leave unreadable pictures out and count them, instead of stopping."""
    path_column: str = "path"
    label_column: str = "label"
    """The columns of a table."""
    tensorboard: bool = False
    """Write TensorBoard logs into the run directory."""
    overwrite: bool = False
    """Replace an existing run directory, once the new one is complete."""


def main(config: Config) -> Path:
    """Train, evaluate, write the run directory and print the outcome; returns the directory."""
    from recipes.engine import evaluation, fit, images, report, run, schedule, sources, splits
    from recipes.engine.progress import say
    from zoo import backbones, heads
    from zoo.files import staged_folder
    from zoo.quiet import load_tensorflow
    from zoo.stack import stack

    row = backbones.find(config.backbone)
    spec = "none" if config.schedule == "scratch" else config.weights
    phases = schedule.resolve(config.schedule, config.epochs, config.learning_rate)
    source = sources.load(config.data, path_column=config.path_column, label_column=config.label_column)
    source, made = splits.complete(source, config.split_seed)
    fingerprint = splits.fingerprint(source)
    if config.per_class is not None:
        source = splits.take_per_label(source, config.per_class, config.split_seed)
    head = heads.single_label(source.labels, dropout=config.dropout, label_smoothing=config.label_smoothing)
    size = config.image_size or row.image_size

    def build(spec: str, mixed: bool = config.mixed_precision):
        with fit.precision(mixed):
            return stack(backbones.build(row, image_size=size, weights=spec), [head])

    with staged_folder(config.out, config.overwrite) as folder:
        load_tensorflow()
        described = fit.describe_phases(build(spec), phases)
        duplicates = splits.warn_of_concerns(source)
        pixels = images.decode_splits(source, size, skip_bad=config.skip_bad)
        say(schedule.table(f"{config.schedule} of {row.name} ({spec})", described))
        logs = str(folder / "tensorboard") if config.tensorboard else None
        settings = fit.FitSettings(
            config.batch_size, config.augment, config.weight_decay, config.class_weights, config.patience, logs
        )
        seeds = range(config.seed, config.seed + config.seeds)

        def train(spec: str, phases):
            model, trained = fit.train(lambda: build(spec), head, phases, pixels, seeds, settings)
            outputs = fit.predict(model, pixels["test"], [result.weights for result in trained])
            return trained, [evaluation.accuracy(output, pixels["test"].targets) for output in outputs]

        trained, accuracies = train(spec, phases)
        verdict = None
        if config.compare_scratch:
            rivals, rival_accuracies = train("none", schedule.resolve("scratch", sum(p.epochs for p in phases)))
            seconds = ([t.seconds for t in trained], [t.seconds for t in rivals])
            verdict = evaluation.verdict(accuracies, rival_accuracies, seconds)
        best = min(trained, key=lambda result: result.validation_loss)
        model = build("none", mixed=False)
        model.set_weights(best.weights)
        facts = {
            "recipe": "image-classification",
            **run.environment(),
            "config": run.plain(config),
            "seed": best.seed,
            "backbone": run.describe_backbone(row, spec, model),
            "data": run.describe_data(source, pixels, made, config.split_seed, fingerprint, duplicates),
            "schedule": {
                "name": config.schedule,
                "phases": [a | b for a, b in zip(described, best.phases, strict=True)],
            },
            "test_accuracy_by_seed": accuracies,
            "seconds": {"train": best.seconds},
            "verdict": verdict,
        }
        run.write_classifier(folder, model, head, pixels, best.history, facts)
    report.write(config.out)
    run.summarize(config.out)
    return config.out


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Config))
