"""The one base of every error a user may cause or meet: its message is a sentence for them, never a traceback."""


class ReelkindError(Exception):
    """Base of all errors of reelkind; ``str()`` names the offending thing and the way out."""
