"""A Keras model as the bytes of a SavedModel, TFLite or ONNX file."""
