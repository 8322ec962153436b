"""The callbacks of the fit loop."""
