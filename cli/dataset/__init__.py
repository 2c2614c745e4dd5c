"""``reelkind dataset``."""
