"""What makes an ONNX graph from tf2onnx fast: onnxscript's rewriter with its own rules, and a few
of ours.

onnxruntime keeps convolutions in a blocked layout as long as their neighbours know it; a loose
Clip, Reshape or ReduceMean between two of them costs a reordering each way.
"""

import math
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import onnx
    from onnxscript.rewriter.pattern import RewriteRuleSet

__all__ = ["rewrite_onnx"]

NEXT_TO_ZERO = 1e-7
"""In float16, too."""
Operators: TypeAlias = Any
"""What makes nodes, of a pattern or of a graph: the classes of onnxscript are not public."""
Tensor: TypeAlias = Any
"""What goes into nodes and comes out."""


def rewrite_onnx(content: "onnx.ModelProto") -> "onnx.ModelProto":
    """The same function with fewer nodes: padding and scales inside convolutions, hard-sigmoid,
    hard-swish and global average pooling as one operator each, GELU as the pattern that onnxruntime
    fuses (its operator needs opset 20).
    """
    from onnxscript.optimizer import optimize
    from onnxscript.rewriter import rewrite
    from onnxscript.rewriter.rules.common import fuse_hardswish_rules

    content = rewrite(optimize(content))
    content = rewrite(rewrite(content, _our_rules()), fuse_hardswish_rules())
    content = optimize(content)
    _keep_padding_before_maximum(content)
    return content


def _keep_padding_before_maximum(content: "onnx.ModelProto") -> None:
    """Zeros around what a MaxPool reads are next to zero instead.

    onnxruntime 1.31 draws a Pad of zeros into the MaxPool behind it, which pads with minus
    infinity: where all of a window is negative, as in ResNetV2, the answer is another (5e-2 in a
    probability). It leaves other values alone.
    """
    from onnx import numpy_helper

    readers = {
        name for node in content.graph.node if node.op_type == "MaxPool" for name in node.input
    }
    for node in content.graph.node:
        if node.op_type == "Pad" and node.output[0] in readers:
            name = f"{node.output[0]}/next_to_zero"
            content.graph.initializer.append(
                numpy_helper.from_array(np.array(NEXT_TO_ZERO, np.float32), name)
            )
            node.input[:] = [*[*node.input, "", ""][:2], name, *node.input[3:]]


def _our_rules() -> "RewriteRuleSet":
    from onnxscript.rewriter.pattern import RewriteRuleClassBase, RewriteRuleSet

    rule_base: Any = RewriteRuleClassBase  # of a check it declares more than the bool that will do

    class HardSigmoid(rule_base):
        """The rule of onnxscript divides by 6; Keras multiplies by a sixth."""

        def pattern(
            self, op: Operators, x: Tensor, three: Tensor, zero: Tensor, six: Tensor, sixth: Tensor
        ) -> Tensor:
            return op.Clip(op.Add(x, three), zero, six) * sixth

        def check(
            self,
            context: object,
            three: Tensor,
            zero: Tensor,
            six: Tensor,
            sixth: Tensor,
            **_: object,
        ) -> bool:
            return all(map(_equals, (three, zero, six, sixth), (3, 0, 6, 1 / 6)))

        def rewrite(self, op: Operators, x: Tensor, **_: object) -> Tensor:
            return op.HardSigmoid(x, alpha=1 / 6, beta=0.5)

    class GlobalAverage(rule_base):
        """A mean over height and width."""

        def pattern(self, op: Operators, x: Tensor, axes: Tensor) -> Tensor:
            return op.ReduceMean(x, axes, keepdims=1)

        def check(self, context: object, x: Tensor, axes: Tensor, **_: object) -> bool:
            over = _constant_array(axes)
            return over is not None and sorted(over) == [2, 3] and _rank(x) == 4

        def rewrite(self, op: Operators, x: Tensor, **_: object) -> Tensor:
            return op.GlobalAveragePool(x)

    class SameShape(rule_base):
        """(n, c, 1, 1) -> (n, c, 1, 1): what is left of a transposition of such a tensor."""

        def pattern(self, op: Operators, x: Tensor, shape: Tensor) -> Tensor:
            return op.Reshape(x, shape)

        def check(self, context: object, x: Tensor, shape: Tensor, **_: object) -> bool:
            target = _constant_array(shape)
            return (
                target is not None
                and _rank(x) == len(target) == 4
                and _keeps_shape(x.shape, target)
            )

        def rewrite(self, op: Operators, x: Tensor, **_: object) -> Tensor:
            return op.Identity(x)

    class ScaleInConvolution(rule_base):
        """Batch normalization after a depthwise convolution, which tf2onnx leaves beside it."""

        def pattern(self, op: Operators, x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
            return op.Conv(x, weight, _allow_other_attributes=True, _outputs=["convolved"]) * scale

        def check(
            self, context: object, weight: Tensor, scale: Tensor, convolved: Tensor, **_: object
        ) -> bool:
            return _of_each_channel(scale, weight, convolved)

        def rewrite(
            self, op: Operators, x: Tensor, weight: Tensor, scale: Tensor, convolved: Tensor
        ) -> Tensor:
            from onnxscript import ir

            scaled = _constant_array(weight) * _constant_array(scale).reshape(-1, 1, 1, 1)
            name = f"{convolved.name}/scaled_weight"
            return op.Conv(
                x, op.initializer(ir.tensor(scaled), name=name), **convolved.producer().attributes
            )

    class BiasInConvolution(rule_base):
        """The offset of that batch normalization."""

        def pattern(self, op: Operators, x: Tensor, weight: Tensor, offset: Tensor) -> Tensor:
            return op.Conv(x, weight, _allow_other_attributes=True, _outputs=["convolved"]) + offset

        def check(
            self, context: object, weight: Tensor, offset: Tensor, convolved: Tensor, **_: object
        ) -> bool:
            return _of_each_channel(offset, weight, convolved)

        def rewrite(
            self, op: Operators, x: Tensor, weight: Tensor, offset: Tensor, convolved: Tensor
        ) -> Tensor:
            from onnxscript import ir

            bias = op.initializer(
                ir.tensor(_constant_array(offset).reshape(-1)), name=f"{convolved.name}/bias"
            )
            return op.Conv(x, weight, bias, **convolved.producer().attributes)

    class Gelu(rule_base):
        """Half of x times erfc of -x/√2, in the words that onnxruntime looks for."""

        def pattern(
            self, op: Operators, x: Tensor, half: Tensor, minus_root: Tensor, one: Tensor
        ) -> Tensor:
            return op.Mul(half, x) * op.Sub(one, op.Erf(op.Mul(op.Neg(x), minus_root)))

        def check(
            self, context: object, half: Tensor, minus_root: Tensor, one: Tensor, **_: object
        ) -> bool:
            return all(map(_equals, (half, minus_root, one), (0.5, math.sqrt(0.5), 1)))

        def rewrite(
            self, op: Operators, x: Tensor, half: Tensor, one: Tensor, **_: object
        ) -> Tensor:
            from onnxscript import ir

            root = op.initializer(ir.tensor(np.float32(math.sqrt(2))), name=f"{x.name}/root")
            return op.Mul(op.Mul(x, op.Add(op.Erf(op.Div(x, root)), one)), half)

    rules = (ScaleInConvolution, BiasInConvolution, HardSigmoid, GlobalAverage, SameShape, Gelu)
    return RewriteRuleSet([rule.rule() for rule in rules], commute=True)


def _constant_array(value: Tensor) -> Any:
    """The array that `value` is known to be; None if it is none."""
    return None if value.const_value is None else value.const_value.numpy()


def _of_each_channel(value: Tensor, weight: Tensor, convolved: Tensor) -> bool:
    """Whether `value` is a constant for each output channel of a convolution that nothing else
    reads.
    """
    constants, kernel = _constant_array(value), _constant_array(weight)
    if kernel is None or constants is None or len(convolved.uses()) > 1:
        return False
    return len(constants.shape) >= 3 and constants.size == constants.shape[-3] == kernel.shape[0]


def _equals(value: Tensor, want: float) -> bool:
    array = _constant_array(value)
    return (
        array is not None
        and array.size == 1
        and math.isclose(array.item(), want, rel_tol=1e-6, abs_tol=1e-9)
    )


def _rank(value: Tensor) -> int | None:
    return None if value.shape is None else len(value.shape)


def _keeps_shape(shape: Tensor, target: np.ndarray) -> bool:
    """Whether a reshape to `target`, which may hold one -1, leaves `shape` as it is."""
    known = [d if isinstance(d, int) else None for d in shape]
    pairs = list(zip(known, target, strict=True))
    return all(have == want or (want == -1 and have is None) for have, want in pairs)
