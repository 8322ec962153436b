"""What a model is made of: backbones, their weights, heads, and the graph that joins them."""

if __name__ != "graft.zoo":
    raise ImportError("`zoo` is called `graft.zoo` now: write `from graft.zoo import ...`")
