"""Our measurements: scripts, and in results/ their tables."""
