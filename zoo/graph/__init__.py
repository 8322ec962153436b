"""The graph of a model: cuts, blocks, freezing, backbone and heads joined, our own layers."""
