"""Smaller files: each precision is what its name says, and int8 that loses too much gives way, in
order.
"""

import re
import zipfile

import keras
import numpy as np
import pytest

from graft.export import contents
from graft.export.convert.onnx import convert_to_onnx
from graft.export.convert.tflite import convert_to_tflite, write_tflite
from graft.export.export import Examples, ExportSettings, Subject, export_model
from graft.export.manifest import Description
from graft.export.quantize.choose import Attempt, best_attempt, explain_choice, try_precision
from graft.export.quantize.layer_errors import measure_layer_errors
from graft.export.quantize.onnx import ONNXQuantizer
from graft.export.quantize.tflite import TFLiteQuantizer
from graft.export.runtimes.onnx import open_onnx
from graft.export.runtimes.tflite import open_tflite
from graft.export.sessions import open_artifact
from graft.zoo.errors import ArtifactError, ConfigError, ExportError, NotApplicable
from graft.zoo.graph.stack import stack
from graft.zoo.heads import heads
from graft.zoo.heads.regression import REGRESSION
from graft.zoo.heads.single_label import SINGLE_LABEL
from tests.conftest import tiny_backbone

LABELS = ["ant", "bee", "cat"]
DESCRIPTION = Description("m", LABELS, {}, (0, 255))
FORMATS = {
    "tflite": (convert_to_tflite, TFLiteQuantizer, open_tflite),
    "onnx": (convert_to_onnx, ONNXQuantizer, open_onnx),
}


def subject(examples, calibration=None):
    """Examples of a model that chooses one of `LABELS`."""
    return Subject(DESCRIPTION, {"probabilities": SINGLE_LABEL}, examples, calibration)


def pixels(count, seed=0):
    coarse = np.random.default_rng(seed).uniform(0, 255, (count, 4, 4, 3))
    return np.float32(coarse.repeat(4, 1).repeat(4, 2))


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    made = stack(tiny_backbone(), [heads.single_label(LABELS)])
    for layer in made.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    made(pixels(64), training=True)
    # Answers that differ from one picture to the next: logits around zero, far apart.
    dense = made.get_layer("probabilities_dense")
    logits = keras.Model(made.inputs[0], dense.output)(pixels(64)).numpy()
    dense.kernel.assign(dense.kernel / logits.std())
    dense.bias.assign(-logits.mean(0) / logits.std())
    return made


@pytest.fixture(scope="module", params=FORMATS)
def quantizer(request, model):
    convert, make, opener = FORMATS[request.param]
    examples = {"image": pixels(48, seed=1)}
    content = convert(model)
    bounds = ({"image": (0, 255)},) if request.param == "tflite" else ()
    return request.param, make(content, examples, *bounds), opener


def run(quantizer, content, tmp_path, count=32):
    kind, _, opener = quantizer
    path = tmp_path / f"m.{kind}"
    path.write_bytes(content)
    return opener(path).run({"image": pixels(count, seed=2)})["probabilities"]


def test_each_precision_answers_nearly_the_same_and_is_smaller(quantizer, tmp_path):
    kind, made, _ = quantizer
    reference = run(quantizer, made.content, tmp_path)
    assert reference.std(0).min() > 0.02
    half, whole = made.float16(), made.int8()
    assert np.abs(run(quantizer, half, tmp_path) - reference).max() < 5e-3
    assert np.abs(run(quantizer, whole, tmp_path) - reference).max() < 0.15
    assert not np.array_equal(run(quantizer, whole, tmp_path), reference)
    assert made.weighted
    assert set(made.weighted) <= set(made.layers)
    (tmp_path / f"m.{kind}").write_bytes(whole)
    described = contents.describe_file(tmp_path / f"m.{kind}")
    assert described["inputs"][0]["dtype"] == described["outputs"][0]["dtype"] == "float32"


def test_examples_that_are_shared_between_threads_get_their_own_answers(
    quantizer, tmp_path, monkeypatch
):
    kind, made, opener = quantizer
    monkeypatch.setattr("graft.export.runtimes.tflite.available_cores", lambda: 3)
    path = tmp_path / f"m.{kind}"
    path.write_bytes(made.content)
    alone, all_of_it = opener(path), opener(path, 0)
    for count in (7, 1, 2, 16):
        given = {"image": pixels(count, seed=count)}
        answers = all_of_it.run(given)["probabilities"]
        np.testing.assert_allclose(answers, alone.run(given)["probabilities"], atol=1e-6)
        assert len(answers) == count


def test_layers_can_stay_in_float(quantizer, tmp_path):
    _, made, _ = quantizer
    reference = run(quantizer, made.content, tmp_path)
    whole = np.abs(run(quantizer, made.int8(), tmp_path) - reference).mean()
    one = np.abs(run(quantizer, made.int8(made.layers[-1:]), tmp_path) - reference).mean()
    assert one < whole
    for make in (made.int8, made.float16):
        some = lambda content: run(quantizer, content, tmp_path, 8)  # noqa: E731
        errors = measure_layer_errors(made.layers, make, some, reference[:8])
        assert sorted(layer for layer, _ in errors) == sorted(made.layers)
        sizes = [error for _, error in errors]
        assert sizes == sorted(sizes, reverse=True)
        assert sizes[0] > 0


def test_full_integers_take_the_pixel_less_128(model, tmp_path):
    made = TFLiteQuantizer(
        convert_to_tflite(model),
        {"image": np.minimum(pixels(48, seed=1), 200)},
        {"image": (0, 255)},
    )
    path = tmp_path / "m.tflite"
    write_tflite(made.int8(full=True), path, DESCRIPTION)
    described = contents.describe_file(path)
    assert described["inputs"][0]["dtype"] == described["outputs"][0]["dtype"] == "int8"
    assert described["inputs"][0]["quantization"] == {"scale": 1.0, "zero_point": -128}
    answers = open_artifact(path).predict(pixels(8, seed=3))
    assert answers.dtype == np.float32
    np.testing.assert_allclose(answers, model(pixels(8, seed=3)), atol=0.15)


def test_what_makes_no_sense_for_onnx_is_said(model):
    made = ONNXQuantizer(convert_to_onnx(model), {"image": pixels(4)})
    with pytest.raises(NotApplicable, match="convolutions"):
        made.dynamic()
    with pytest.raises(NotApplicable, match="QDQ"):
        made.int8(full=True)


def test_a_dynamic_onnx_file_is_also_measured_one_example_at_a_time(tmp_path, monkeypatch):
    """Its activations are scaled over a whole batch: beside a neighbour a hundred times as bright
    an answer is another.
    """
    monkeypatch.setattr("graft.export.probe.measure_file", lambda path: {})
    monkeypatch.setattr("graft.export.probe.measure_latency", lambda path: 1.0)
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16, 16, 3), name="image")
    x = keras.layers.Dense(64, "relu")(keras.layers.Flatten()(inputs))
    made = keras.Model(inputs, keras.layers.Dense(3, name="values")(x))
    images = pixels(16)
    images[:8] /= 100
    description = Description("m", ["a", "b", "c"], {}, (0, 255))
    values = Subject(description, {"values": REGRESSION}, Examples(images, None, {"split": None}))
    settings = ExportSettings(("onnx",), ("dynamic",))
    rows = export_model(made, tmp_path / "out", values, settings)["files"]
    whole, small = (row["parity"] for row in rows)
    assert whole["batch_1_diff"] < 1e-3 * np.abs(images).max()
    alone = open_onnx(tmp_path / "out" / "model.dynamic.onnx").run
    reference = made.predict(images, verbose=0)
    one_by_one = np.concatenate([alone({"image": image[None]})["values"] for image in images])
    assert small["batch_1_diff"] == pytest.approx(np.abs(one_by_one - reference).max(), rel=1e-3)
    together = alone({"image": images})["values"]
    assert (
        np.abs(together[:8] - one_by_one[:8]).max()
        > 10 * np.abs(one_by_one[:8] - reference[:8]).max()
    )


def test_dynamic_without_convolutions(tmp_path):
    inputs = keras.Input((16, 16, 3), name="image")
    x = keras.layers.Dense(64, "relu")(
        keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(inputs))
    )
    made = keras.Model(inputs, keras.layers.Dense(3, "softmax", name="probabilities")(x))
    for kind, (convert, make, opener) in FORMATS.items():
        quantizer = (kind, make(convert(made)), opener)
        small = quantizer[1].dynamic()
        assert len(small) < 0.5 * len(quantizer[1].content)
        difference = run(quantizer, small, tmp_path) - run(
            quantizer, quantizer[1].content, tmp_path
        )
        assert 0 < np.abs(difference).max() < 0.05


@pytest.mark.parametrize("kind", FORMATS)
def test_int8_without_examples_is_refused(model, kind):
    convert, make, _ = FORMATS[kind]
    with pytest.raises(ConfigError, match="give --data"):
        make(convert(model)).int8()


def test_onnx_files_of_any_layers_are_those_of_onnxruntime_after_one_calibration(
    model, tmp_path, monkeypatch
):
    """To search the layers, a file is made of each; a file knows nothing of those made before it."""
    import onnx
    from onnxruntime import quantization

    content, examples = convert_to_onnx(model), pixels(8)
    (name,) = (given.name for given in onnx.load_from_string(content).graph.input)

    class Reader:
        def __init__(self):
            self.left = [{name: examples[i : i + 1]} for i in range(len(examples))]

        def get_next(self):
            return self.left.pop(0) if self.left else None

    made, calls = quantization.quantize_static, []
    own = ONNXQuantizer(content, {name: examples})
    monkeypatch.setattr(
        quantization, "quantize_static", lambda *given, **how: calls.append(made(*given, **how))
    )
    wanted = [None, own.layers[:1], own.layers[2:5], own.layers[1:], None]
    found = [own.int8(layers) for layers in wanted]
    assert len(calls) == 1
    for layers, file in zip(wanted, found, strict=True):
        made(
            onnx.load_from_string(content),
            tmp_path / "theirs.onnx",
            Reader(),
            per_channel=True,
            reduce_range=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            nodes_to_quantize=layers and list(layers),
        )
        assert file == (tmp_path / "theirs.onnx").read_bytes()


class Recorded:
    """A quantizer whose files are what was asked of it."""

    layers = tuple(f"layer{i}" for i in range(20))
    weighted = layers[2:-2]

    def __init__(self, dynamic=True):
        self._dynamic = dynamic

    def float16(self, layers=None):
        return b"float16" * (100 + (0 if layers is None else len(self.layers) - len(layers)))

    def dynamic(self):
        if not self._dynamic:
            raise NotApplicable("no")
        return b"dynamic" * 60

    def int8(self, layers=None, full=False):
        kept = 0 if layers is None else len(self.layers) - len(layers)
        return b"full" if full else b"int8" * (50 + kept)


class Broken(Recorded):
    """One whose files with some layers in float32 cannot be made."""

    def int8(self, layers=None, full=False):
        if layers is not None:
            raise ExportError("the convert gave up")
        return super().int8()


def test_one_attempt_that_fails_takes_no_file_away():
    facts = {"drop_points": 9.0, "drop_interval": None, "status": "fail"}
    judge = lambda content, made: facts | {"passed": made == "dynamic"}  # noqa: E731
    found = try_precision(Broken(), "int8", judge, lambda precision: [("layer0", 1.0)])
    assert [a.precision for a in found] == ["int8", "dynamic"]
    assert smallest(found).precision == "dynamic"
    with pytest.raises(ExportError, match="gave up"):
        try_precision(
            Broken(), "int8", judge=lambda *_: Broken().int8([]), errors=lambda precision: []
        )


def test_a_layer_that_cannot_be_made_smaller_is_left_out():
    def make(layers):
        if "b" in layers:
            raise ArtifactError("does not run")
        return layers[0].encode()

    run = lambda content: np.full(3, {b"a": 1.0, b"c": 2.0}[content])  # noqa: E731
    assert measure_layer_errors(["a", "b", "c"], make, run, np.zeros(3)) == [
        ("c", 2.0),
        ("a", 1.0),
    ]


def smallest(found):
    return best_attempt(found, "size", latency=None)


def tried(passes, dynamic=True, precision="int8"):
    """The attempts when the files pass that the function `passes` likes."""
    facts = {
        "figure": "accuracy",
        "drop_points": 9.0,
        "drop_interval": (8.0, 10.0),
        "max_abs_diff": 0.05,
    }
    facts["status"] = "fail"
    judge = lambda content, made: facts | {"passed": passes(content)}  # noqa: E731
    errors = [(layer, 1.0 / (i + 1)) for i, layer in enumerate(Recorded.layers)]
    return try_precision(Recorded(dynamic), precision, judge, lambda precision: errors)


def test_int8_that_passes_is_all_that_is_tried():
    (only,) = tried(lambda content: True)
    assert (only.precision, only.float_layers) == ("int8", ())
    assert explain_choice([only], smallest([only]), "size") is None


def test_what_is_tried_when_int8_fails_and_the_smallest_that_passes_is_taken():
    found = tried(lambda content: content != b"int8" * 50)
    assert [a.precision for a in found] == ["int8", "int8-mixed", "int8-mixed", "dynamic"]
    assert found[1].float_layers == ("layer0", "layer1", "layer2", "layer17", "layer18", "layer19")
    assert found[2].float_layers == ("layer0",), "one layer in twenty, the worst"
    chosen = smallest(found)
    assert len(chosen.content) == min(len(a.content) for a in found[1:])
    text = explain_choice(found, chosen, "size")
    assert (
        "int8 lost 9.0 points of accuracy (8.0 to 10.0); of 4 files tried 3 pass, the smallest is:"
        in text
    )


def test_the_quickest_file_that_passes_is_taken_unless_size_is_preferred():
    """Before, the smallest was taken: weights of 8 bits alone, six times as slow as float32."""
    found = tried(lambda content: content != b"int8" * 50)
    milliseconds = {b"int8" * 51: 1.0, b"int8" * 56: 0.95, b"dynamic" * 60: 11.0}
    asked = []

    def latency(content):
        asked.append(content)
        return milliseconds[content]

    chosen = best_attempt(found, "latency", latency)
    assert chosen.content == b"int8" * 51, "about as quick as the quickest, and smaller"
    assert len(asked) == 3, "what did not pass is not timed"
    assert "of 4 files tried 3 pass, the quickest is:" in explain_choice(found, chosen, "latency")


def test_what_is_undecided_goes_on_being_looked_for_and_is_kept_before_what_fails():
    def judge(content, made):
        drops = {b"int8" * 50: 2.0, b"dynamic" * 60: 1.5}
        drop = drops.get(content, 1.2)
        status = "fail" if content == b"int8" * 51 else "undecided"
        facts = {
            "figure": "accuracy",
            "drop_points": drop,
            "drop_interval": (0.1, 4.0),
            "max_abs_diff": 0.05,
        }
        return facts | {"status": status, "passed": False}

    found = try_precision(Recorded(), "int8", judge, lambda precision: [("layer0", 1.0)])
    assert len(found) > 2
    chosen = best_attempt(found, "latency", latency=None)
    assert (chosen.judged["status"], chosen.judged["drop_points"]) == ("undecided", 1.2)
    assert "none of" in explain_choice(found, chosen, "latency")


def test_a_file_that_answers_nan_has_lost_the_most():
    """Before, its drop counted its answers as zeros, and it was kept before a file that works."""
    facts = {"figure": "accuracy", "drop_interval": None, "status": "fail", "passed": False}
    works, broken = (
        Attempt("s", "int8", b"x", (), facts | {"drop_points": drop, "max_abs_diff": largest})
        for drop, largest in ((5.0, 0.1), (0.0, float("nan")))
    )
    assert best_attempt([broken, works], "latency", latency=None) is works


def test_a_file_that_cannot_be_timed_takes_no_other_away():
    found = tried(lambda content: content != b"int8" * 50)
    times = {b"int8" * 51: float("inf"), b"int8" * 56: 1.0, b"dynamic" * 60: float("inf")}
    assert best_attempt(found, "latency", times.__getitem__).content == b"int8" * 56
    assert best_attempt(found, "latency", lambda content: float("inf")).judged["passed"]


def test_more_layers_stay_in_float_until_it_passes_and_float16_takes_the_place_of_dynamic():
    found = tried(lambda content: content == b"float16" * 100, dynamic=False)
    assert [len(a.float_layers) for a in found] == [0, 6, 1, 3, 6, 0]
    assert smallest(found).precision == "float16"


def test_float16_that_differs_too_much_keeps_layers_too():
    found = tried(lambda content: content != b"float16" * 100, precision="float16")
    assert [(a.precision, len(a.float_layers)) for a in found] == [
        ("float16", 0),
        ("float16-mixed", 6),
        ("float16-mixed", 1),
    ]
    chosen = smallest(found)
    assert chosen is found[2]
    assert explain_choice(found, chosen, "size").startswith(
        "float16 differed by 0.050; of 3 files tried"
    )


def test_nothing_passes():
    found = tried(lambda content: False)
    chosen = smallest(found)
    assert not chosen.judged["passed"]
    assert chosen is found[0], "all lose the same"
    assert "the one that loses least is" in explain_choice(found, found[1], "size")
    (full,) = tried(lambda content: False, precision="int8-full")
    assert full.precision == "int8-full", "an accelerator has no use for float layers"


def test_an_attempt_for_the_manifest():
    facts = Attempt("as asked", "int8", b"1234", ("a",), {"passed": True, "value": 0.9}).as_dict()
    expected = {
        "strategy": "as asked",
        "precision": "int8",
        "size_bytes": 4,
        "float_layers": 1,
        "passed": True,
        "value": 0.9,
    }
    assert facts == expected | {"passed": True, "value": 0.9}


def test_an_export_with_all_precisions(model, tmp_path, monkeypatch):
    monkeypatch.setattr("graft.export.probe.measure_file", lambda path: {})
    examples = pixels(40, seed=4)
    targets = np.eye(3)[model(examples).numpy().argmax(-1)]
    content = export_model(
        model,
        tmp_path / "out",
        subject(
            Examples(examples, targets, {"split": "validation"}),
            Examples(pixels(48, seed=1), None, {"split": "train", "names": ["a"]}),
        ),
        ExportSettings(
            formats=("tflite", "onnx"),
            precisions=("float16", "dynamic", "int8", "int8-full"),
            max_drop=100.0,
        ),
    )
    paths = [row["path"] for row in content["files"] if row["path"]]
    assert paths == [
        "model.tflite",
        "model.float16.tflite",
        "model.dynamic.tflite",
        "model.int8.tflite",
        "model.int8-full.tflite",
        "model.onnx",
        "model.float16.onnx",
        "model.int8.onnx",
    ]
    assert all(row["passed"] for row in content["files"])
    assert [row["requested"] for row in content["files"] if "skipped" in row] == [
        "dynamic",
        "int8-full",
    ]
    assert content["calibration"] == {"examples": 48, "split": "train", "names": ["a"]}
    assert content["measured_on"] == {"examples": 40, "split": "validation"}
    with zipfile.ZipFile(tmp_path / "out" / "model.dynamic.tflite") as archive:
        assert {item.date_time for item in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}, (
            "twice the same bytes"
        )
    for path in paths:
        session = open_artifact(tmp_path / "out" / path)
        assert list(session.labels) == LABELS
        np.testing.assert_allclose(session.predict(examples[:4]), model(examples[:4]), atol=0.2)


def test_a_file_that_loses_too_much_stays_and_fails(model, tmp_path, monkeypatch):
    monkeypatch.setattr("graft.export.probe.measure_file", lambda path: {})
    noise = np.random.default_rng(0).integers(0, 255, (3, 16, 16, 3))
    monkeypatch.setattr(ONNXQuantizer, "float16", lambda self, layers=None: _shuffled(self.content))
    examples = pixels(60, seed=4)
    rows = export_model(
        model,
        tmp_path / "out",
        subject(Examples(examples, np.eye(3)[model(examples).numpy().argmax(-1)]), Examples(noise)),
        ExportSettings(("onnx",), ("float16",)),
    )["files"]
    assert [row["passed"] for row in rows] == [True, False]
    assert rows[1]["accuracy"]["drop_points"] > 10
    assert (tmp_path / "out" / "model.float16.onnx").is_file()


def _shuffled(content):
    """The same model with its last weights in another order: it runs, and answers nonsense."""
    import onnx

    made = onnx.load_from_string(content)
    last = [i for i in made.graph.initializer if list(i.dims)[-1:] == [3]][-1]
    array = onnx.numpy_helper.to_array(last)
    last.CopyFrom(onnx.numpy_helper.from_array(array[..., ::-1].copy() * -1, last.name))
    return made.SerializeToString()


def test_a_quantizer_whose_file_does_not_run_is_a_row(model, tmp_path, monkeypatch):
    monkeypatch.setattr("graft.export.probe.measure_file", lambda path: {})
    monkeypatch.setattr(TFLiteQuantizer, "dynamic", lambda self: self.content[:2000])
    rows = export_model(
        model,
        tmp_path / "out",
        subject(Examples(pixels(8))),
        ExportSettings(("tflite",), ("dynamic", "float16")),
    )["files"]
    assert [row["passed"] for row in rows] == [True, False, True]
    assert "cut short" in rows[1]["error"]
    assert rows[1]["path"] is None


@pytest.mark.parametrize("kind", FORMATS)
def test_a_library_that_fails_is_named(model, kind):
    convert, make, _ = FORMATS[kind]
    wrong = make(convert(model), {"another": pixels(4)})
    with pytest.raises(ExportError, match="failed to quantize"):
        wrong.int8()


@pytest.mark.parametrize("kind", FORMATS)
def test_a_network_that_collapses_in_int8_is_saved_by_two_layers_in_float(
    kind, tmp_path, monkeypatch
):
    """One channel is 3,000 times as large as the others between two convolutions, and as much
    smaller behind them: the same function in float32, but 256 steps that cover that channel leave
    nothing of the others.
    """
    monkeypatch.setattr("graft.export.probe.measure_file", lambda path: {})
    keras.utils.set_random_seed(1)
    x = inputs = keras.Input((16, 16, 3), name="image")
    x = keras.layers.Rescaling(1 / 127.5, -1)(x)
    for i in range(6):
        x = keras.layers.Conv2D(
            8,
            3,
            strides=2 if i in (0, 3) else 1,
            activation="relu",
            padding="same",
            name=f"conv{i}",
        )(x)
    x = keras.layers.Flatten(name="features")(x)
    dense = keras.layers.Dense(3, name="dense")
    made = keras.Model(inputs, keras.layers.Softmax(name="probabilities")(dense(x)))
    logits = keras.Model(inputs, dense.output)(pixels(200)).numpy()
    scale = logits.std(0).mean()
    dense.kernel.assign(dense.kernel / scale)
    dense.bias.assign(-logits.mean(0) / scale)
    before, after = made.get_layer("conv2"), made.get_layer("conv3")
    sizes = np.where(np.arange(8) == 0, 3000.0, 1.0)
    before.kernel.assign(before.kernel * sizes)
    before.bias.assign(before.bias * sizes)
    after.kernel.assign(after.kernel / sizes[:, None])

    examples = pixels(240, seed=7)
    (whole, row) = export_model(
        made,
        tmp_path / "out",
        subject(
            Examples(examples, np.eye(3)[made(examples).numpy().argmax(-1)]),
            Examples(pixels(64, seed=1)),
        ),
        ExportSettings((kind,), ("int8",), max_drop=15.0, prefer="size"),
    )["files"]
    assert whole["passed"]
    first, *others = row["attempts"]
    assert not first["passed"]
    assert first["drop_interval"][0] > 40, "a real collapse, measured"
    worst = [attempt for attempt in others if "the worst" in attempt["strategy"]]
    assert worst[-1]["passed"]
    assert worst[-1]["drop_points"] < 15
    assert {"conv2", "conv3"} == {
        re.search(r"conv\d", entry["layer"])[0] for entry in row["layer_errors"][:2]
    }
    assert row["passed"]
    # Of two files that pass the smaller one is taken; of so small a network that is the one with
    # 16-bit weights in ONNX.
    assert row["precision"] == {"tflite": "int8-mixed", "onnx": "float16"}[kind]
    assert row["path"] == f"model.{row['precision']}.{kind}"
    assert {"tflite": "the only one that passes is", "onnx": "the smallest is"}[kind] in row[
        "reason"
    ]


@pytest.mark.parametrize(("turned", "offset"), [(1, False), (0, True), (1, True)])
def test_a_gemm_is_quantized_as_a_product(turned, offset):
    """onnxruntime's dynamic quantization passes a Gemm over; the projections of a BERT's attention
    are such.
    """
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    weight = rng.normal(size=(32, 64) if turned else (64, 32)).astype(np.float32)
    inputs = ["x", "w", "b"] if offset else ["x", "w"]
    node = helper.make_node(
        "Gemm", inputs, ["y"], "gemm", transB=turned, beta=1.0 if offset else 0.0
    )
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 32])],
        [
            numpy_helper.from_array(weight, "w"),
            numpy_helper.from_array(rng.normal(size=32).astype(np.float32), "b"),
        ],
    )
    content = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10
    ).SerializeToString()
    small = ONNXQuantizer(content).dynamic()
    operators = {n.op_type for n in onnx.load_from_string(small).graph.node}
    assert "MatMulInteger" in operators
    assert "Gemm" not in operators
    x = rng.normal(size=(5, 64)).astype(np.float32)
    before, after = (
        onnxruntime.InferenceSession(c).run(None, {"x": x})[0] for c in (content, small)
    )
    assert np.abs(before - after).max() < 0.05 * before.std()
