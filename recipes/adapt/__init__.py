"""Learning from examples without labels: another domain, or more of the same one."""
