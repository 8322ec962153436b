"""Models of one's own: what they say is used, what they cannot say is asked for."""

import keras
import numpy as np
import pytest
from keras import layers

from graft.export.convert.onnx import convert_to_onnx
from graft.recipes.commands import own_model
from graft.zoo.backbones.keras_file import describe_foreign_file, load_keras_model
from graft.zoo.errors import ArtifactError, ConfigError, GraftError
from graft.zoo.heads.own_outputs import Meaning, load_own_model

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (6, 16, 16, 3)).astype("float32")
ABC = ("a", "b", "c")


@pytest.fixture
def saved(tmp_path):
    """Saves a Sequential model of layers on 16 x 16 pictures, or any model; returns (path,
    model).
    """

    def save(*parts, shape=(16, 16, 3), dtype=None):
        keras.utils.set_random_seed(0)
        model = (
            parts[0]
            if isinstance(parts[0], keras.Model)
            else keras.Sequential([keras.Input(shape, dtype=dtype), *parts])
        )
        model.save(tmp_path / "m.keras")
        return tmp_path / "m.keras", model

    return save


def body(units, activation=None):
    return (
        layers.Rescaling(1 / 255),
        layers.Conv2D(4, 3),
        layers.GlobalAveragePooling2D(),
        layers.Dense(units, activation),
    )


def test_a_sequential_model_is_a_functional_one(saved):
    """Before, it had no structure of inputs: AttributeError."""
    path, model = saved(*body(3, "softmax"))
    own = load_own_model(path, Meaning(ABC))
    assert (own.labels, own.kind) == (ABC, "single_label")
    np.testing.assert_allclose(own.model(PIXELS), model(PIXELS), atol=1e-6)
    assert isinstance(load_keras_model(path), keras.Model)
    assert not isinstance(load_keras_model(path), keras.Sequential)


def test_logits_are_asked_about_and_get_their_softmax(saved):
    """Before, they were values, and the labels nobody's."""
    path, model = saved(*body(3))
    with pytest.raises(
        ConfigError,
        match=r"no softmax or sigmoid behind: say what the numbers are, --outputs logits",
    ):
        load_own_model(path, Meaning(ABC))
    own = load_own_model(path, Meaning(ABC, "logits"))
    assert own.kind == "single_label"
    np.testing.assert_allclose(own.model(PIXELS), keras.ops.softmax(model(PIXELS)), atol=1e-6)
    assert load_own_model(path, Meaning(ABC, "values")).kind == "regression"
    assert load_own_model(path, Meaning(None, "values")).labels == ("value 1", "value 2", "value 3")
    path, _ = saved(*body(3, "softmax"))
    with pytest.raises(ConfigError, match="ends in a softmax: its outputs are no logits"):
        load_own_model(path, Meaning(ABC, "logits"))
    path, model = saved(*body(3), layers.Rescaling(9.0, 50.0))
    with pytest.raises(ConfigError, match="no probabilities: --outputs logits or values"):
        load_own_model(path, Meaning(ABC, "probabilities"))


@pytest.mark.parametrize(("activation", "outputs"), [("sigmoid", None), (None, "logits")])
def test_one_unit_and_two_labels(saved, activation, outputs):
    """Before, a logit of 8 was a probability of 8.0."""
    path, model = saved(*body(1, activation))
    own = load_own_model(path, Meaning(("no", "yes"), outputs))
    second = (
        np.asarray(model(PIXELS)) if activation else np.asarray(keras.ops.sigmoid(model(PIXELS)))
    )
    assert (own.kind, own.labels) == ("single_label", ("no", "yes"))
    assert own.model.output.shape == (None, 2)
    np.testing.assert_allclose(own.model(PIXELS), np.hstack([1 - second, second]), atol=1e-6)
    one = load_own_model(path, Meaning(("yes",), outputs))
    assert one.kind == "multi_label"
    np.testing.assert_allclose(one.model(PIXELS), second, atol=1e-6)
    sure = load_own_model(
        saved(
            *body(1, activation)[:-1],
            layers.Dense(1, activation, bias_initializer=keras.initializers.Constant(30)),
        )[0],
        Meaning(("no", "yes"), outputs),
    )
    assert 0 < np.asarray(sure.model(PIXELS))[:, 0].max() < 1e-9, "1 - p would be 0"


def test_one_value_stays_one_value(saved):
    path, model = saved(*body(1))
    own = load_own_model(path, Meaning())
    assert (own.kind, own.labels) == ("regression", ("value",))
    np.testing.assert_allclose(own.model(PIXELS), model(PIXELS), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "scale", "offset"), [("0..1", 1 / 255, 0), ("-1..1", 1 / 127.5, -1)]
)
def test_other_pixels_are_made_inside(saved, name, scale, offset):
    path, model = saved(
        layers.Conv2D(4, 3), layers.GlobalAveragePooling2D(), layers.Dense(3, "softmax")
    )
    own = load_own_model(path, Meaning(ABC, input_range=name))
    np.testing.assert_allclose(own.model(PIXELS), model(PIXELS * scale + offset), atol=1e-5)


def test_whole_numbers_and_odd_shapes(saved):
    path, model = saved(*body(3, "softmax"), dtype="uint8")
    own = load_own_model(path, Meaning(ABC))
    assert own.model.inputs[0].dtype == "float32"
    np.testing.assert_allclose(own.model(PIXELS), model(PIXELS.astype("uint8")), atol=1e-6)
    with pytest.raises(ConfigError, match="takes whole numbers"):
        load_own_model(path, Meaning(ABC, input_range="0..1"))
    path, model = saved(layers.GlobalAveragePooling2D(keepdims=True), layers.Dense(3, "softmax"))
    assert load_own_model(path, Meaning(ABC)).model.output.shape == (None, 3)


def alone(shape, layer):
    return keras.Sequential([keras.Input(shape), layer])


def two_inputs():
    pictures, more = keras.Input((16, 16, 3)), keras.Input((4,))
    x = layers.Concatenate()([layers.GlobalAveragePooling2D()(pictures), more])
    return keras.Model([pictures, more], layers.Dense(3, "softmax")(x))


def two_outputs():
    pictures = keras.Input((16, 16, 3))
    x = layers.GlobalAveragePooling2D()(pictures)
    return keras.Model(pictures, [layers.Dense(3, "softmax")(x), layers.Dense(1)(x)])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (two_inputs, "it has 2 inputs"),
        (two_outputs, "it has 2 outputs"),
        (
            lambda: alone((16, 16, 3), layers.Conv2D(3, 1, activation="softmax")),
            r"it answers \(16, 16, 3\)",
        ),
        (
            lambda: alone((None, None, 3), layers.GlobalAveragePooling2D()),
            "takes images of any size: say for which one it was trained, --image-size 224x224",
        ),
        (
            lambda: alone((16, 16, 2), layers.GlobalAveragePooling2D()),
            r"1 \(grey\), 3 \(RGB\) or 4 \(RGBA\) channels, and one output; its input is \(16, 16, 2",
        ),
        (lambda: alone((7,), layers.Dense(3)), r"its input is \(7,\)"),
        (
            lambda: keras.Sequential([layers.Flatten(), layers.Dense(3)]),
            "does not know the shape of its input",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:You are saving a model that has not yet been built")
def test_other_models_are_one_line(saved, make, message):
    path, _ = saved(make())
    with pytest.raises(GraftError, match=message):
        load_own_model(path, Meaning(ABC))


def test_classes_that_no_file_holds(saved):
    class Subclassed(keras.Model):
        def __init__(self, **settings):
            super().__init__(**settings)
            self.pool, self.dense = layers.GlobalAveragePooling2D(), layers.Dense(3, "softmax")

        def call(self, inputs):
            return self.dense(self.pool(inputs))

    class Doubled(layers.Layer):
        def call(self, inputs):
            return inputs * 2

    model = Subclassed()
    model(PIXELS)
    path, _ = saved(model)
    with pytest.raises(
        ArtifactError,
        match=r"is a subclassed model: its class 'Subclassed'.*makes a functional model of it",
    ):
        load_own_model(path, Meaning(ABC))
    path, _ = saved(Doubled(), layers.GlobalAveragePooling2D(), layers.Dense(3, "softmax"))
    with pytest.raises(ArtifactError, match="needs 'Doubled', a class or function of your own"):
        load_own_model(path, Meaning(ABC))


def test_labels_that_do_not_fit(saved):
    path, _ = saved(*body(3, "softmax"))
    with pytest.raises(
        ArtifactError, match="are missing: give --labels FILE, one label a line, 3 of them"
    ):
        load_own_model(path, Meaning())
    with pytest.raises(ArtifactError, match="has 2 labels, but 3 outputs"):
        load_own_model(path, Meaning(("a", "b")))
    path, _ = saved(*body(1, "sigmoid"))
    with pytest.raises(ArtifactError, match="--labels NO,YES"):
        load_own_model(path, Meaning())


def test_files_of_other_programs():
    assert "load_model('a.h5', compile=False).save('a.keras')" in describe_foreign_file("x/a.h5")
    assert "weights without a model" in describe_foreign_file("a.weights.h5")
    assert "PyTorch" in describe_foreign_file("a.pth")
    assert describe_foreign_file("a.onnx") is None


@pytest.mark.parametrize("recurrent", [layers.LSTM(4), layers.Bidirectional(layers.GRU(4))])
def test_recurrent_layers_go_to_onnx(recurrent):
    """Before, "No Op registered for TensorListReserve"."""
    import onnxruntime

    inputs = keras.Input((16, 16, 3), name="image")
    x = recurrent(layers.Reshape((16, 48))(layers.Rescaling(1 / 255)(inputs)))
    model = keras.Model(inputs, layers.Dense(3, "softmax")(x))
    session = onnxruntime.InferenceSession(convert_to_onnx(model))
    np.testing.assert_allclose(session.run(None, {"image": PIXELS})[0], model(PIXELS), atol=1e-5)


def test_a_model_that_is_right_by_chance_is_asked_for_its_pixels(capsys):
    """It tells dark from bright, with pixels from -1 to 1."""
    classes = np.arange(40) % 2
    pixels = np.uint8(RNG.integers(0, 100, (40, 4, 4, 3)) + 150 * classes[:, None, None, None])
    targets = np.eye(2, dtype=np.float32)[classes]

    def answers(given):
        bright = 1 / (1 + np.exp(-20 * given.mean((1, 2, 3))))
        return np.stack([1 - bright, bright], -1)

    own_model.warn_near_chance("m.keras", answers, pixels, targets, "0..255")
    said = " ".join(capsys.readouterr().err.split())
    assert (
        "right on 50.0% of 40 images, no better than chance (50.0%): does it expect pixels from "
        "0 to 255?" in said
    )
    assert "with --input-range -1..1 it is right on 100.0%" in said
    own_model.warn_near_chance(
        "m.keras", lambda given: answers(given / 127.5 - 1), pixels, targets, "0..255"
    )
    own_model.warn_near_chance("m.keras", answers, pixels[::2], targets[::2], "0..255")
    assert not capsys.readouterr().err
