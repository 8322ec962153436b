"""What a model is made of: backbones, their weights, heads, and the graph that joins them."""
