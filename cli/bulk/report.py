"""``reelkind bulk report``: a table to what one wants to know of it."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path

from ..options import connecting
from ..output.talk import EXIT_OK, say


def run(args: argparse.Namespace) -> int:
    """Print what the table of ``args.table`` holds, and write it with pictures beside its parts."""
    from reelkind.bulk.contact_sheet import strips
    from reelkind.bulk.report import REPORT_NAME, html, summarise, text
    from reelkind.core.files.whole_files import write_whole

    folder = Path(args.table)
    summary = summarise(folder)
    print(text(summary))
    with ExitStack() as stack:
        decoder = connecting.decoder(args, stack)
        pictures = strips((uri for uri, _, _ in summary.doubtful), str(Path.cwd()), decoder)
    page = folder / REPORT_NAME
    write_whole(page, html(summary, pictures))
    say(f"the same as a page, with pictures: {page}")
    return EXIT_OK
