"""`graft predict ARTIFACT INPUT...`: labels and probabilities for images or texts."""

import contextlib
import itertools
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tyro.conf import Positional

from graft.recipes.codecs.image_size import ImageSizeOption
from graft.zoo.fits import STRETCH, Fit

if TYPE_CHECKING:
    from graft.recipes.runs.prediction.drawings import Drawing
    from graft.recipes.runs.prediction.stdin import BadInput
    from graft.recipes.runs.session import OpenedModel

__all__ = ["Options", "command"]

BATCH = 32


@dataclass(frozen=True)
class Options:
    """Label images or texts with a run, a .keras file, a SavedModel folder, a .tflite or a .onnx
    file.
    """

    artifact: Positional[Path]
    """The run or the file."""
    inputs: Positional[tuple[str, ...]]
    """Image files of any size, folders of them, patterns ("photos/*.jpg"), or `-` for a list of
    these from stdin, one a line; for a model of texts the texts themselves, tables (.csv, .tsv,
    .jsonl), .txt files of one text a line, or `-` for a line each from stdin. What comes from stdin
    is answered as it comes.
    """
    top: int = 3
    """How many labels to print for each."""
    json: bool = False
    """Print a JSON list, all scores."""
    out: Path | None = None
    """Write a table too: a .csv or .jsonl file."""
    draw: Path | None = None
    """Draw boxes or masks on the images: a .png or .jpg file for one image, else a folder."""
    overwrite: bool = False
    """Replace these files if they exist."""
    skip_bad: bool = False
    """End with exit code 0 also where some inputs cannot be read."""
    text_column: str = "text"
    """Of tables of texts: the column; in .jsonl a list is taken for words."""
    words: bool = False
    """Of a model that tags words: each text is words already, with blanks between them or as a JSON
    list.
    """
    labels: str | None = None
    """Of a .keras file of your own: a text file, one label a line in the order of the outputs, or
    a,b,c. Default: labels.txt beside it.
    """
    outputs: Literal["probabilities", "logits", "values"] | None = None
    """Of a .keras file of your own: what its numbers are. Default: what its last layer tells."""
    input_range: Literal["0..255", "0..1", "-1..1"] = "0..255"
    """Of a .keras file of your own: the pixels that it expects."""
    fit: Fit = STRETCH
    """Of a .keras file of your own: how an image of other proportions is fitted. stretch changes
    them, crop takes the largest part in the centre, pad keeps all of it on grey.
    """
    image_size: ImageSizeOption = None
    """Of a .keras file of your own that takes images of any size: pixels a side, or HEIGHTxWIDTH
    as 160x224.
    """
    trust: bool = False
    """Open also what is refused as long as nobody vouches for it: a SavedModel that can do more
    than compute, a .tflite or .onnx file that does not pass its trial. Only for files whose origin
    you know.
    """


def command(arguments: Sequence[str]) -> int:
    """Print a line an image or text (tab separated), or JSON, to stdout, each batch as it is done;
    what cannot be read is named on stderr. 1 if something could not be read, unless that is to be
    skipped.
    """
    import tyro

    from graft.export.sessions import open_artifact
    from graft.recipes.commands import own_model
    from graft.recipes.runs.prediction import outputs
    from graft.recipes.runs.prediction.drawings import Drawing
    from graft.recipes.runs.session import OpenedModel
    from graft.zoo.errors import ConfigError
    from graft.zoo.terminal import tell_row

    options = tyro.cli(Options, args=arguments, prog="graft predict")
    if options.top < 1:
        raise ConfigError(f"--top must be at least 1, not {options.top}")
    if options.out is not None:
        outputs.check_table(options.out, options.overwrite)
    meaning = own_model.meaning_of(options.artifact, options)
    model = OpenedModel.of(open_artifact(options.artifact, meaning=meaning, trust=options.trust))
    drawing = None
    if options.draw is not None:
        drawing = Drawing.of(model, options.draw, options.overwrite)
    with contextlib.ExitStack() as stack:
        writers: list[Callable[[Mapping], None]] = []
        if options.json:
            writers.append(stack.enter_context(outputs.json_list()))
        else:
            writers.append(
                lambda answer: tell_row(*outputs.cells_of(answer, model.tasks, options.top))
            )
        if options.out is not None:
            table = outputs.table(options.out, model.tasks, model.session.integers)
            writers.append(_opened_at_first(table, stack))
        done, bad = _write(_answers(model, options, drawing), writers)
    return _exit_code(done, bad, options)


def _opened_at_first(
    table: contextlib.AbstractContextManager[Callable[[Mapping], None]], stack: contextlib.ExitStack
) -> Callable[[Mapping], None]:
    """What `table` yields, which begins with the first answer: none is no reason to replace the
    table of before.
    """
    writers: list[Callable[[Mapping], None]] = []

    def write(answer: Mapping) -> None:
        if not writers:
            writers.append(stack.enter_context(table))
        writers[0](answer)

    return write


def _write(
    answers: Iterable["Mapping | BadInput"], writers: Sequence[Callable[[Mapping], None]]
) -> tuple[int, int]:
    """Hand each answer to all `writers`, name what is bad on stderr; (answers, bad inputs)."""
    from graft.recipes.runs.prediction.stdin import BadInput
    from graft.zoo.shown import one_line

    done = bad = 0
    for answer in answers:
        if isinstance(answer, BadInput):
            bad += 1
            print(f"graft predict: {one_line(answer.why)}", file=sys.stderr, flush=True)
            continue
        done += 1
        for write in writers:
            write(answer)
    return done, bad


def _exit_code(done: int, bad: int, options: Options) -> int:
    from graft.zoo.errors import DataError

    if not done and not bad:
        raise DataError(
            "nothing to label: give image files, folders or patterns, texts, or `-` to read a line "
            "each from stdin"
        )
    if not done:
        return 2
    if bad and not options.skip_bad:
        print(
            f"graft predict: {bad:,} of {done + bad:,} could not be read: --skip-bad ends with 0 "
            "all the same",
            file=sys.stderr,
        )
    return 1 if bad and not options.skip_bad else 0


def _answers(
    model: "OpenedModel", options: Options, drawing: "Drawing | None"
) -> Iterator["Mapping | BadInput"]:
    """What the model says of each input, in order."""
    from graft.recipes.runs.prediction.inputs import BadInput, read_items
    from graft.zoo.errors import ConfigError

    of_words = model.session.preprocessing.get("words")
    if options.words and not of_words:
        takes = f"takes {model.codec.noun}s" if of_words is None else "reads texts as they are"
        raise ConfigError(f"--words is for models that tag words: '{options.artifact}' {takes}")
    marks: Counter = Counter()
    bursts = read_items(
        model.codec,
        options.inputs,
        column=options.text_column,
        words=options.words,
    )
    for batch in itertools.chain.from_iterable(map(_batches, bursts)):
        good = [item for item in batch if not isinstance(item, BadInput)]
        said = iter(model.answer_with_rows([item.content for item in good]) if good else ())
        for item in batch:
            if isinstance(item, BadInput):
                yield item
                continue
            own, rows = next(said)
            answer = {"input": item.name, **own}
            if drawing is not None:
                drawing.draw(item.name, rows)
            marks.update(["all", *(mark for mark in ("truncated", "unreadable") if mark in answer)])
            yield answer
    _warn_of_marks(model, marks)


def _warn_of_marks(model: "OpenedModel", marks: Mapping[str, int]) -> None:
    """Say how many texts were cut, and how many the tokenizer could not read."""
    from graft.zoo.terminal import warn

    if marks["truncated"]:
        warn(
            f"{marks['truncated']:,} of {marks['all']:,} texts are longer than the "
            f"{model.codec.max_length} tokens that the model reads: what lies behind was not "
            "looked at "
            '("truncated" in --json)'
        )
    if marks["unreadable"]:
        warn(
            f"{marks['unreadable']:,} of {marks['all']:,} texts are mostly unknown ([UNK]) to the "
            "model's tokenizer: do not trust what it says of them "
            '("unreadable" in --json)'
        )


def _batches(items: Iterator) -> Iterator[list]:
    """Lists of at most `BATCH` items, to their end."""
    while batch := list(itertools.islice(items, BATCH)):
        yield batch
