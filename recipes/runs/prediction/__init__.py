"""What `graft predict` is asked about and what it answers."""
