"""The pretrained backbones: a row of a table, or a model of your own -> a Keras graph with its
weights.
"""
