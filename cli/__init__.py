"""The ``reelkind`` command line.

Each subcommand is a module with ``add_parser(subparsers)``, which sets ``run``, and ``run(args) -> int``.
"""
