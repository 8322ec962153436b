"""The pictures and sentences that adaptation is measured on, written outside the project: MNIST,
USPS, scikit-learn's digits, clothing_small and the Amazon reviews; and the small net for digits.

The net, `digits_net`: four 3 x 3 convolutions (16, 32, 32, 64), each with BatchNormalization and
    ReLU, pooling behind the
first, third and fourth, a dense layer of 128; 110 thousand parameters.
"""

import csv
import os
import re
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np

__all__ = ["DOMAINS", "clothing", "data", "digits_net", "digits_table", "folder", "reviews", "usps"]

DOMAINS = ("books", "dvd", "electronics", "kitchen")
"""Of the reviews."""


def data(*parts: str) -> Path:
    """A file of GRAFT_DATA."""
    root = os.environ.get("GRAFT_DATA")
    if root is None or not Path(root, *parts).exists():
        sys.exit(f"GRAFT_DATA must name the folder that holds {Path(*parts)}: see CONTRIBUTING.md")
    return Path(root, *parts)


def folder(name: str, work: Path) -> Path:
    """Class folders of MNIST or USPS, train and test, 28 x 28."""
    from PIL import Image

    target = work / name
    if target.exists():
        return target
    if name == "mnist":
        with np.load(data("mnist_subset", "mnist_10k_10k.npz")) as file:
            parts = {split: (file[f"x_{split}"], file[f"y_{split}"]) for split in ("train", "test")}
    else:
        parts = usps()
    for split, (images, labels) in parts.items():
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            place = work / f".{name}" / split / str(label)
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(place / f"{i}.png")
    (work / f".{name}").rename(target)
    return target


def usps() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """16 x 16 pictures that fill their box, as MNIST has its digits: 20 x 20 in the middle of 28 x
    28. Stratified 80/20.
    """
    from PIL import Image
    from scipy.io import loadmat
    from sklearn.model_selection import train_test_split

    file = loadmat(data("usps", "USPS.mat"))
    labels = np.int64(file["gnd"].ravel()) - 1
    images = np.zeros((len(labels), 28, 28), np.uint8)
    pixels = np.float64(file["fea"])
    pixels = np.uint8(255 * (pixels - pixels.min()) / (pixels.max() - pixels.min())).reshape(
        -1, 16, 16
    )
    for place, image in zip(images, pixels, strict=True):
        place[4:24, 4:24] = Image.fromarray(image).resize((20, 20), Image.Resampling.BICUBIC)
    train, test = train_test_split(
        np.arange(len(labels)), test_size=0.2, random_state=0, stratify=labels
    )
    return {"train": (images[train], labels[train]), "test": (images[test], labels[test])}


def clothing(work: Path) -> Path:
    """clothing_small, unpacked."""
    target = work / "clothing"
    if not target.exists():
        with zipfile.ZipFile(data("clothing_small", "clothing_small_160.zip")) as archive:
            archive.extractall(work / ".clothing")
        (work / ".clothing").rename(target)
    return target


def digits_table(work: Path) -> str:
    """scikit-learn's digits, half of them for adapting and half for measuring."""
    from PIL import Image
    from sklearn.model_selection import train_test_split

    from graft.recipes.data.builtin import digits

    target = work / "digits.csv"
    if not target.exists():
        pairs = digits.load()
        labels = [label for _, label in pairs]
        train, _ = train_test_split(
            np.arange(len(pairs)), test_size=0.5, random_state=0, stratify=labels
        )
        (work / "digits").mkdir(exist_ok=True)
        lines = ["path,label,split\n"]
        for i, (image, label) in enumerate(pairs):
            Image.fromarray(image).save(work / "digits" / f"{i}.png")
            lines.append(f"digits/{i}.png,{label},{'train' if i in set(train) else 'test'}\n")
        target.write_text("".join(lines), encoding="utf-8")
    return str(target)


def digits_net(work: Path) -> Path:
    """The small net, in a file."""
    import keras
    from keras import layers

    target = work / "digits_net.keras"
    x = inputs = keras.Input((28, 28, 3), name="image")
    x = layers.Rescaling(1 / 255)(x)
    for filters, pool in ((16, True), (32, False), (32, True), (64, True)):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
        x = layers.MaxPooling2D()(x) if pool else x
    x = layers.Dense(128, use_bias=False)(layers.Flatten()(x))
    x = layers.ReLU()(layers.BatchNormalization()(x))
    keras.Model(inputs, x, name="digits_net").save(target)
    return target


def reviews(work: Path) -> dict[str, Path]:
    """A table of texts and labels for each domain."""
    tables = {name: work / f"{name}.csv" for name in DOMAINS}
    if all(path.exists() for path in tables.values()):
        return tables
    with tarfile.open(data("amazon_multidomain", "sorted_data_acl_labelled.tar.xz")) as archive:
        for name, path in tables.items():
            with path.open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(("text", "label"))
                for label in ("negative", "positive"):
                    members = (m for m in archive.getnames() if m.endswith(f"/{label}.review"))
                    (member,) = (m for m in members if m.split("/")[-2].startswith(name))
                    content = archive.extractfile(member).read().decode("latin-1")
                    for text in re.findall(r"<review_text>(.*?)</review_text>", content, re.DOTALL):
                        writer.writerow((" ".join(text.split()), label))
    return tables
