"""Arrays -> batches: gathering, the prefix cache, its store and its views."""
