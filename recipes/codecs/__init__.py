"""From records to the arrays that a graph takes, one module a modality."""
