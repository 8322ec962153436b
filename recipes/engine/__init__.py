"""What recipes share: data, schedules, the fit loop, the run directory, the report."""
