"""Files of ours: written whole or not at all, features kept, the user's cache."""
