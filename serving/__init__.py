"""A model repository to a supervised tritonserver: found or prepared, started, watched, stopped without remains.

    environment ─► runtime ─► command ─► tree (guard ─► tritonserver ─► runner in every stub)
                                          ▲
    models ─► control ─► server ──────────┴── supervisor

Imports ``reelkind.core`` and third-party packages only. Nothing is loaded here; see ``server.TritonServer``.
"""
