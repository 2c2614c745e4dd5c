"""``reelkind bulk``."""
