"""Mutated files for the fuzz test, and the process that opens them: `python -m tests.slow.fuzzing
KIND`.

The process reads paths from stdin, opens each as Graft does, and answers a line of JSON: "ok",
"refused" (one line of Graft's) or "traceback". The test watches it from outside: a file may end it,
block it or fill its memory.
"""

import contextlib
import copy
import io
import json
import random
import re
import resource
import struct
import sys
import traceback
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

MOST_BYTES = 2 * 1024**3
NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFE)
VALUES = (
    None,
    True,
    0,
    -1,
    1.5,
    1e308,
    10**30,
    "",
    "x",
    "7",
    "../../../../etc/passwd",
    "/etc/hostname",
    "\ud800",
    "[red]\x1b[2J",
    [],
    {},
    [None],
    [[]],
    {"": None},
    [1, 2, 3],
    ["a", 1],
    float("nan"),
    float("inf"),
    [[[[[[]]]]]],
)


def of_bytes(content: bytes, rng: random.Random) -> bytes:
    """`content` with a few random changes."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        start, length = rng.randrange(len(changed) + 1), rng.choice((1, 2, 4, 16, 64, 512))
        how = rng.randrange(7)
        if how == 0:
            for _ in range(min(length, 16)):
                place = rng.randrange(max(1, len(changed)))
                changed[place : place + 1] = bytes([rng.randrange(256)])
        elif how == 1:
            del changed[start:]
        elif how == 2:
            changed[start:start] = rng.randbytes(length)
        elif how == 3:
            del changed[start : start + length]
        elif how == 4:
            changed[start:start] = changed[start : start + length]
        elif how == 5:
            changed[start : start + length] = bytes(length)
        else:
            changed[start : start + 4] = struct.pack(rng.choice("<>") + "I", rng.choice(NUMBERS))
    return bytes(changed)


def of_json(content: bytes, rng: random.Random) -> bytes:
    """JSON whose values, keys or characters are other ones."""
    if rng.random() < 0.25:
        return of_bytes(content, rng)
    if rng.random() < 0.03:
        return rng.choice(
            (
                b"[" * 200_000,
                b'{"a":' * 100_000,
                b"[]",
                b"null",
                b"7",
                b'"x"',
                b"",
                b"\xff\xfe{",
                b"9" * 5000,
            )
        )
    whole = [json.loads(content)]
    for _ in range(rng.choice((1, 1, 2, 4))):
        places = [(whole, 0)]
        for holder, key in places:
            value = holder[key]
            keys = (
                value
                if isinstance(value, dict)
                else range(len(value))
                if isinstance(value, list)
                else ()
            )
            places += [(value, inner) for inner in keys]
        holder, key = rng.choice(places)
        how = rng.randrange(8)
        if how == 0 and holder is not whole:
            del holder[key]
        elif how == 1 and isinstance(holder[key], int):
            holder[key] = holder[key] * rng.choice((-1, 1000, 10**9)) + rng.choice((-1, 0, 1))
        elif how == 2:
            holder[key] = [holder[key]]
        elif how == 3 and isinstance(holder[key], int | float):
            holder[key] = str(holder[key])
        else:
            holder[key] = copy.deepcopy(rng.choice(VALUES))
    return json.dumps(whole[0]).encode()


def of_zip(content: bytes, rng: random.Random, members: Mapping[str, Callable] = {}) -> bytes:
    """A zip archive with changes in its bytes, in a member (its checksum fits), in its names, or in
    what it declares.
    """
    how = rng.random()
    if how < 0.3:
        return of_bytes(content, rng)
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(target, "w") as new:
        parts = {name: old.read(name) for name in old.namelist()}
        names = list(parts)
        chosen = rng.choice(names)
        if how < 0.8:
            parts[chosen] = members.get(chosen, of_bytes)(parts[chosen], rng)
        elif how < 0.9:
            parts[rng.choice(("../x", "/x", "a:b", chosen + "x", "x.pkl"))] = parts.pop(chosen)
        else:
            parts[chosen] = bytes(rng.choice((0, 100, 30_000_000)))
        for name, part in parts.items():
            new.writestr(name, part, rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))
    made = target.getvalue()
    if how >= 0.95:  # other sizes in the directory at the end
        place = made.rfind(b"PK\x01\x02")
        made = (
            made[: place + 20] + struct.pack("<II", *rng.choices(NUMBERS, k=2)) + made[place + 28 :]
        )
    return made


def of_npz(content: bytes, rng: random.Random) -> bytes:
    """A NumPy archive; also with another header of an array."""

    def header(part: bytes, rng: random.Random) -> bytes:
        if rng.random() < 0.4:
            return of_bytes(part, rng)
        shape = rng.choice(
            (b"(99999999999,)", b"(-1,)", b"(1,)", b"('a',)", b"7", b"()", b"(2,2)", b"(" * 50)
        )
        head, body = part[:10], part[10:]
        text = re.sub(
            rb"'shape': \([^)]*\)", b"'shape': " + shape, body[: struct.unpack("<H", head[8:])[0]]
        )
        if rng.random() < 0.3:
            text = re.sub(
                rb"'descr': '[^']*'",
                b"'descr': '" + rng.choice((b"|O", b"<f8", b"<U9", b"|V9", b"x")) + b"'",
                text,
            )
        return (
            head[:8]
            + struct.pack("<H", len(text))
            + text
            + body[struct.unpack("<H", head[8:])[0] :]
        )

    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = archive.namelist()
    return of_zip(content, rng, dict.fromkeys(names, header))


def of_keras(content: bytes, rng: random.Random) -> bytes:
    """A .keras file."""
    return of_zip(content, rng, {"config.json": of_json, "metadata.json": of_json})


def of_tflite(content: bytes, rng: random.Random) -> bytes:
    """A .tflite file: its bytes, above all the first ones (what it is made of stands at both ends),
    or its archive.
    """
    if rng.random() < 0.2:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
            start = min(info.header_offset for info in archive.infolist())
        name = rng.choice(list(parts))
        parts[name] = (of_json if name.endswith(".json") else of_bytes)(parts[name], rng)
        target = io.BytesIO(content[:start])
        with zipfile.ZipFile(target, "a") as archive:
            for name, part in parts.items():
                archive.writestr(name, part)
        return target.getvalue()
    changed = bytearray(content)
    table = len(content) if rng.random() < 0.3 else min(len(content), 6000)
    for _ in range(rng.choice((1, 1, 2, 4))):
        place = rng.randrange(table - 4)
        number = (
            rng.choice(NUMBERS)
            if rng.random() < 0.5
            else rng.randrange(2**32) >> rng.choice((0, 16, 24))
        )
        changed[place : place + 4] = struct.pack("<I", number)
    return bytes(changed) if rng.random() < 0.9 else of_bytes(content, rng)


def of_onnx(content: bytes, rng: random.Random) -> bytes:
    """A .onnx file: its bytes, its shapes and attributes, or the JSON in its metadata."""
    import onnx

    how = rng.random()
    if how < 0.4:
        return of_bytes(content, rng)
    model = onnx.load_from_string(content)
    if how < 0.6:
        entry = rng.choice(model.metadata_props)
        with contextlib.suppress(ValueError):
            entry.value = of_json(entry.value.encode(), rng).decode("utf-8", "replace")
        return model.SerializeToString()
    for _ in range(rng.choice((1, 1, 3))):
        graph, which = model.graph, rng.randrange(5)
        if which == 0:
            value = rng.choice([*graph.input, *graph.output])
            dims = value.type.tensor_type.shape.dim
            if dims and rng.random() < 0.7:
                rng.choice(dims).dim_value = rng.choice((0, -1, 1, 7, 100_000, 2**40))
            else:
                del dims[:]
        elif which == 1:
            tensor = rng.choice(graph.initializer)
            tensor.dims[:] = [rng.choice((0, -1, 1, 3, 2**40)) for _ in range(rng.randrange(4))]
        elif which == 2:
            node = rng.choice(graph.node)
            node.op_type = rng.choice(("Conv", "Reshape", "Loop", "Nothing", "MatMul", "Resize"))
        elif which == 3:
            node = rng.choice([node for node in graph.node if node.attribute])
            attribute = rng.choice(node.attribute)
            attribute.i, attribute.ints[:] = (
                rng.choice((0, -1, 2**40)),
                [rng.choice((0, -1, 2**31, 2**40))] * 2,
            )
        else:
            tensor = rng.choice(graph.initializer)
            tensor.data_location = onnx.TensorProto.EXTERNAL
            tensor.external_data.add(
                key="location", value=rng.choice(("../../etc/passwd", "/etc/hostname", "x.bin"))
            )
    return model.SerializeToString()


def of_png(content: bytes, rng: random.Random) -> bytes:
    """A PNG with other sizes whose checksum fits, or with other bytes."""
    if content[:4] != b"\x89PNG" or rng.random() < 0.6:
        return of_bytes(content, rng)
    sizes = struct.pack(">II", *rng.choices((0, 1, 7, 50_000, 2**31 - 1, 2**32 - 1), k=2))
    header = b"IHDR" + sizes + content[24:29]
    return content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:]


# ---------------------------------------------------------------------------------------------------------------------
# Openers: what a command does with such a file; `run` is a whole run with its export


def _artifact(path: Path, run: Path) -> None:
    """As `graft predict`, but in this process, also what is tried in another one first."""
    import numpy as np

    from graft.export import sessions

    session = sessions.open_artifact(path, trust=True)
    shape = session.input_shape
    sessions.check_finite(
        session.run({next(iter(session.inputs)): np.zeros((1, *shape), np.float32)}), path
    )


def _keras(path: Path, run: Path) -> None:
    from graft.zoo.backbones import keras_file
    from graft.zoo.heads import own_outputs

    model = keras_file.load_keras_model(path)
    own_outputs.kind_of_outputs(model)


def _run_json(path: Path, run: Path) -> None:
    from graft.recipes.commands import evaluate, subjects
    from graft.recipes.grid import rows
    from graft.recipes.report import card, report
    from graft.recipes.report.run_file import read_run
    from graft.recipes.runs.supervised import Supervised

    _placed(path, run / "run.json")
    for step in (
        lambda: read_run(run),
        lambda: report.write(run),
        lambda: Supervised().tell(run),
        lambda: card.write(run, run / "export"),
        lambda: evaluate.provenance(run),
        lambda: subjects._origin(run, read_run(run).get("data")),
        lambda: rows.measure_of(read_run(run)),
    ):
        _refusable(step)


def _manifest(path: Path, run: Path) -> None:
    from graft.export import manifest
    from graft.export.untrusted.checks import check_untrusted
    from graft.recipes.commands import evaluate, measure
    from graft.recipes.grid import rows
    from graft.recipes.report import card, report
    from graft.zoo.files.guards import one_line_if_damaged

    folder = run / "export"

    def columns() -> None:  # as recipes/grid/grid.py reads it
        with one_line_if_damaged(folder / "manifest.json"):
            rows.file_columns(manifest.read_manifest(folder))

    _placed(path, folder / "manifest.json")
    for step in (
        columns,
        lambda: report.write(run),
        lambda: card.write(run, folder),
        lambda: measure._files_of(folder),
        lambda: evaluate.provenance(folder / "model.onnx"),
        lambda: check_untrusted(folder / "model.onnx", trust=True),
    ):
        _refusable(step)


def _npz(path: Path, run: Path) -> None:
    from graft.recipes.commands import export
    from graft.recipes.report import report
    from graft.recipes.report.run_file import read_run
    from graft.recipes.runs import examples
    from graft.recipes.runs.session import codec_of_files
    from graft.recipes.tasks.table import tasks_of
    from graft.recipes.train.checkpoint import Checkpoints, epochs_in
    from graft.zoo.files.guards import one_line_if_damaged
    from graft.zoo.files.reading import read_arrays, read_json

    if path.parent.name.startswith("checkpoint"):
        place = run / "checkpoint" / "seed-0.npz"
        place.parent.mkdir(exist_ok=True)
        _placed(path, place)
        epochs_in(place.parent)
        _refusable(lambda: Checkpoints(place.parent).load(0))
        return

    def exported() -> None:
        with one_line_if_damaged(run):
            described = read_json(run / "preprocessing.json", dict)
            codec, tasks = codec_of_files(run, described), tasks_of(described["tasks"])
            examples.from_run(run, read_run(run), None, codec, tasks)

    for name, step in (
        ("examples.npz", exported),
        ("samples.npz", lambda: report.write(run)),
        ("mistakes.npz", lambda: report.write(run)),
    ):
        whole = (run / name).read_bytes()
        _placed(path, run / name)
        try:
            _refusable(step)
        finally:
            (run / name).write_bytes(whole)
    read_arrays(path)
    assert export.command is not None


def _tokenizer(path: Path, run: Path) -> None:
    from graft.zoo import text
    from graft.zoo.files.reading import read_text

    def whole() -> None:
        made = text.tokenizer_from_json(read_text(path), where=str(path))
        made.encode(["some words", ""], 16)

    _refusable(whole)
    found = text.check_tokenizer(read_text(path), 0, path)
    (
        found.encode(["some words"], 16),
        found.encode_words([["some", "words"]], 16),
        found.kind,
        found.size,
    )


def _csv(path: Path, run: Path) -> None:
    from graft.recipes.data import sentences, sources
    from graft.recipes.grid.ledger import read_rows
    from graft.recipes.report import report_training

    for step in (
        lambda: sentences.load(str(path), need=("label",)),
        lambda: sources.load(str(path)),
        lambda: report_training.read_history(path),
        lambda: read_rows(path),
    ):
        _refusable(step)


def _image(path: Path, run: Path) -> None:
    from graft.zoo.vision import decode_image

    decode_image(path, 32)


def _h5(path: Path, run: Path) -> None:
    from graft.zoo.backbones import weight_files

    with weight_files.opened_weights(path) as file:
        for name in file:
            str(file[name])


def _placed(path: Path, target: Path) -> None:
    target.write_bytes(path.read_bytes())


def _refusable(step: Callable[[], object]) -> None:
    """Run `step`; a refusal is as good as an end, and the next step follows."""
    from graft.zoo.errors import GraftError

    try:
        step()
    except GraftError as error:
        _check_line(str(error))


def _check_line(text: str) -> None:
    assert text.strip(), "an empty message"
    assert len(text) < 2500, f"a message of {len(text)} characters"
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u202e\ud800-\udfff]", text), (
        f"{text!r} is not one clean line"
    )


KINDS: Mapping[str, tuple[Callable, Callable]] = {
    "tflite": (of_tflite, _artifact),
    "onnx": (of_onnx, _artifact),
    "keras": (of_keras, _keras),
    "manifest": (of_json, _manifest),
    "run": (of_json, _run_json),
    "npz": (of_npz, _npz),
    "tokenizer": (of_json, _tokenizer),
    "csv": (of_bytes, _csv),
    "images": (of_png, _image),
    "h5": (of_bytes, _h5),
}
"""Each kind of file: how it is mutated, how it is opened."""


def mutants(kind: str, bases: Sequence[Path], count: int, folder: Path) -> list[Path]:
    """Write `count` mutated files of a kind, the same ones each time; returns their paths."""
    mutate, _ = KINDS[kind]
    found = []
    for number in range(count):
        base = bases[number % len(bases)]
        rng = random.Random(f"{kind} {number}")
        place = folder / f"{base.parent.name}-{number}"
        place.mkdir()
        found.append(place / base.name)
        found[-1].write_bytes(mutate(base.read_bytes(), rng))
    return found


def main(kind: str, run: Path) -> None:
    """Open the files that stdin names."""
    from graft.zoo.errors import GraftError

    _, opener = KINDS[kind]
    answers = sys.stdout
    sys.stdout = sys.stderr  # what the openers print
    print(json.dumps({"outcome": "ready"}), file=answers, flush=True)
    for line in sys.stdin:
        try:
            opener(Path(line.rstrip("\n")), run)
            found = {"outcome": "ok"}
        except GraftError as error:
            text = str(error)
            try:
                _check_line(text)
                found = {"outcome": "refused", "text": text}
            except AssertionError as wrong:
                found = {"outcome": "traceback", "text": str(wrong)}
        except BaseException:  # a panic of Rust is no Exception
            found = {"outcome": "traceback", "text": traceback.format_exc()[-1500:]}
        found["bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps(found), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
