"""`graft predict ARTIFACT INPUT...`: labels and probabilities for pictures or texts."""

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from tyro.conf import Positional

if TYPE_CHECKING:
    from graft.export.sessions import Session
    from graft.recipes.runs.predict_inputs import BadInput
    from graft.recipes.runs.text_session import Text

__all__ = ["Options", "command"]

BATCH = 32


@dataclass(frozen=True)
class Options:
    """Label pictures or texts with a run, a .keras file, a SavedModel folder, a .tflite or a .onnx
    file.
    """

    artifact: Positional[Path]
    """The run or the file."""
    inputs: Positional[tuple[str, ...]]
    """Image files of any size, folders of them, patterns ("photos/*.jpg"), or `-` for a list of
    these from stdin, one a line; for a model of texts the texts themselves, tables (.csv, .tsv,
    .jsonl), .txt files of one text a line, or `-` for a line each from stdin.
    """
    top: int = 3
    """How many labels to print for each."""
    json: bool = False
    """Print a JSON list, all scores."""
    out: Path | None = None
    """Write a table too: a .csv or .jsonl file."""
    overwrite: bool = False
    """Replace that file if it exists."""
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
    trust: bool = False
    """Open also what is refused as long as nobody vouches for it: a SavedModel that can do more
    than compute, a .tflite or .onnx file that does not pass its trial. Only for files whose origin
    you know.
    """


def command(arguments: Sequence[str]) -> int:
    """Print a line a picture or text (tab separated), or JSON, to stdout, each batch as it is done;
    what cannot be read is named on stderr. 1 if something could not be read, unless that is to be
    skipped.
    """
    import tyro

    from graft.export.sessions import open_artifact
    from graft.recipes.runs import own_model, predict_outputs
    from graft.zoo.errors import ConfigError
    from graft.zoo.terminal import tell_row

    options = tyro.cli(Options, args=arguments, prog="graft predict")
    if options.top < 1:
        raise ConfigError(f"--top must be at least 1, not {options.top}")
    if options.out is not None:
        predict_outputs.check_table(options.out, options.overwrite)
    meaning = own_model.meaning_of(
        options.artifact, options.labels, options.outputs, options.input_range
    )
    session = open_artifact(options.artifact, meaning=meaning, trust=options.trust)
    answers = _texts(session, options) if session.integers else _pictures(session, options)
    tasks = session.outputs if len(session.outputs) > 1 else ()
    with contextlib.ExitStack() as stack:
        writers: list[Callable[[Mapping], None]] = []
        if options.json:
            writers.append(stack.enter_context(predict_outputs.json_list()))
        else:
            writers.append(
                lambda answer: tell_row(*predict_outputs.cells_of(answer, tasks, options.top))
            )
        if options.out is not None:
            table = predict_outputs.table(options.out, tasks, session.integers)
            writers.append(_opened_at_first(table, stack))
        done, bad = _write(answers, writers)
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
    from graft.recipes.runs.predict_inputs import BadInput
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


def _texts(session: "Session", options: Options) -> Iterator["Mapping | BadInput"]:
    from graft.recipes.runs import predict_inputs, text_session
    from graft.zoo.errors import ConfigError
    from graft.zoo.terminal import warn

    text_session.check_session(session)
    if options.words and not session.preprocessing["words"]:
        raise ConfigError(
            f"--words is for models that tag words: '{options.artifact}' reads texts as they are"
        )
    cut = unreadable = done = 0
    for batch in _batches(predict_inputs.texts(options.inputs, options.text_column, options.words)):
        good: list[Text] = [text for text in batch if not isinstance(text, predict_inputs.BadInput)]
        answers = iter(text_session.predict_batch(session, good) if good else ())
        for text in batch:
            answer = text if isinstance(text, predict_inputs.BadInput) else next(answers)
            cut += isinstance(answer, Mapping) and "truncated" in answer
            unreadable += isinstance(answer, Mapping) and "unreadable" in answer
            yield answer
        done += len(good)
    if cut:
        warn(
            f"{cut:,} of {done:,} texts are longer than the {text_session.longest(session)} tokens "
            "that the model reads: "
            'what lies behind was not looked at ("truncated" in --json)'
        )
    if unreadable:
        warn(
            f"{unreadable:,} of {done:,} texts are mostly unknown ([UNK]) to the model's "
            "tokenizer: do not trust what it "
            'says of them ("unreadable" in --json)'
        )


def _pictures(session: "Session", options: Options) -> Iterator["Mapping | BadInput"]:
    from graft.recipes.runs import predict_inputs
    from graft.zoo.errors import ConfigError, DataError
    from graft.zoo.vision import decode_image

    if options.words:
        raise ConfigError(f"--words is for models of texts: '{options.artifact}' takes pictures")
    size = session.input_shape[0]
    for batch in _batches(predict_inputs.picture_files(options.inputs)):
        found: list[np.ndarray | predict_inputs.BadInput] = []
        for file in batch:
            try:
                found.append(
                    file
                    if isinstance(file, predict_inputs.BadInput)
                    else np.float32(decode_image(file, size))
                )
            except DataError as error:
                found.append(predict_inputs.BadInput(str(error)))
            except OSError as error:  # of the look at what kept it from being read
                found.append(
                    predict_inputs.BadInput(f"'{file}' cannot be read: {error.strerror or error}")
                )
        pixels = [part for part in found if isinstance(part, np.ndarray)]
        answers = iter(_said(session, np.stack(pixels)) if pixels else ())
        for file, part in zip(batch, found, strict=True):
            yield {"input": str(file), **next(answers)} if isinstance(part, np.ndarray) else part


def _said(session: "Session", pixels: np.ndarray) -> Iterator[dict]:
    """What the heads say of each picture; of several by their names."""
    from graft.recipes.runs.text_session import said

    scores = session.predict(pixels)
    if isinstance(scores, dict):
        described = session.preprocessing["outputs"]
        for i in range(len(pixels)):
            yield {name: said(described[name], rows[i]) for name, rows in scores.items()}
        return
    described = session.preprocessing.get("outputs", {}).get(session.outputs[0])
    head = described or {
        "kind": session.preprocessing.get("kind", "single_label"),
        "labels": session.labels,
    }
    for row in scores:
        yield said(head, row)


def _batches(items: Iterable) -> Iterator[list]:
    """Lists of at most `BATCH` items, as they come."""
    batch: list = []
    for item in items:
        batch.append(item)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
