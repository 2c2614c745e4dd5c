"""``reelkind export``."""
