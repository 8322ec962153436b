"""Files that hold many examples: Parquet, Arrow, tar, records of TensorFlow Datasets."""
