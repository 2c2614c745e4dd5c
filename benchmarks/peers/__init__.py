"""What one would write or take instead, on the same clips."""
