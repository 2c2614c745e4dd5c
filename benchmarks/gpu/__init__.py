"""A card and its engines: what they answer, how fast, in how much memory."""
