"""How models are trained: one file is one runnable recipe, read from top to bottom."""
