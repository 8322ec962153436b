"""What is known of a phase: what it will take, and what came of it."""
