"""Training on features that others extracted: YouTube-8M's."""
