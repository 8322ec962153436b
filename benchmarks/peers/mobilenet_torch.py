"""torchvision's MobileNetV2 with the ImageNet weights of keras.applications, so that all peers
start from the same numbers.

TensorFlow pads a stride of two at the right and bottom only, and its normalization has an epsilon
of 1e-3: both are followed here. Not code of Graft.
"""

from collections import Counter

import h5py
import numpy as np
import torch
from torchvision.models import mobilenet_v2

ORDER = {"conv2d": (3, 2, 0, 1), "depthwise_conv2d": (2, 3, 0, 1)}
"""Keras keeps kernels as (h, w, in, out) and (h, w, channels, 1); torch as (out, in, h, w) and
(channels, 1, h, w).
"""


def body(weights: str) -> torch.nn.Sequential:
    """The convolutions, `(b, 3, h, w)` in [-1, 1] -> `(b, 1280, h / 32, w / 32)`; `weights` is
    Keras's .weights.h5.
    """
    model = mobilenet_v2(weights=None).features
    counts: Counter = Counter()
    with h5py.File(weights) as file, torch.no_grad():

        def stored(kind: str) -> list[np.ndarray]:
            """The next layer of a kind: its file counts them from the input to the output."""
            number, counts[kind] = counts[kind], counts[kind] + 1
            variables = file["layers"][f"{kind}_{number}" if number else kind]["vars"]
            return [np.asarray(variables[str(i)]) for i in range(len(variables))]

        for layer in model.modules():
            if isinstance(layer, torch.nn.Conv2d):
                kind = "depthwise_conv2d" if layer.groups > 1 else "conv2d"
                (kernel,) = stored(kind)
                layer.weight.copy_(torch.from_numpy(kernel.transpose(ORDER[kind])))
            elif isinstance(layer, torch.nn.BatchNorm2d):
                layer.eps = 1e-3
                targets = (layer.weight, layer.bias, layer.running_mean, layer.running_var)
                for target, value in zip(targets, stored("batch_normalization"), strict=True):
                    target.copy_(torch.from_numpy(value))
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, torch.nn.Conv2d) and child.stride == (2, 2):
                child.padding = (0, 0)
                setattr(parent, name, torch.nn.Sequential(torch.nn.ZeroPad2d((0, 1, 0, 1)), child))
    return torch.nn.Sequential(model)
