"""Late fusion: rules on finished answers."""
