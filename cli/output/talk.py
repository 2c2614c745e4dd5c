"""Talk to whoever runs a command, and what the command's exit status says."""

from __future__ import annotations

import sys

EXIT_OK, EXIT_FAILED, EXIT_USAGE = 0, 1, 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells report it
EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE


def say(sentence: str) -> None:
    """One sentence on stderr; stdout is for results."""
    print(f"reelkind: {sentence}", file=sys.stderr, flush=True)
