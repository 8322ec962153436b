"""One module for each verb of the `graft` command."""
