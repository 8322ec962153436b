"""Many runs, compared: the grid behind `graft bench`, and the scores behind `graft suggest`."""
