"""The fit loop: phases, schedules, optimizer, checkpoints, budgets."""
