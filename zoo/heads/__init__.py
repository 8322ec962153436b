"""What stands on top of a backbone: a kind of answer, its loss and its figure."""
