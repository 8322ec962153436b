"""Files of strangers: looked at, and tried in a process with limits, before they are opened."""
