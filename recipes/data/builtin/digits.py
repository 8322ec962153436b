"""`digits`: scikit-learn's 1,797 handwritten digits (Alpaydin and Kaynak 1998, UCI), 8 x 8 pixels
each.
"""

import numpy as np

__all__ = ["load"]

SIDE = 32
"""Enlarged from 8 smoothly, because a nearest-neighbour staircase would be a feature of its own."""


def load() -> list[tuple[np.ndarray, str]]:
    """`(image, label)` pairs: uint8 `(32, 32, 3)`, bright ink on black; labels "0" to "9"."""
    from PIL import Image
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pairs = []
    for pixels, label in zip(bunch.images, bunch.target, strict=True):
        grey = Image.fromarray(np.uint8(pixels * (255 / 16))).resize(
            (SIDE, SIDE), Image.Resampling.BICUBIC
        )
        pairs.append((np.repeat(np.asarray(grey)[..., None], 3, -1), str(label)))
    return pairs
