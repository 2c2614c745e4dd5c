"""``python -m reelkind``."""

import sys

from reelkind.cli.main import main

sys.exit(main())
