"""What each specialist is worth."""
