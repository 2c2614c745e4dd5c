"""The JSON API under ``/api``, described by ``/api/openapi.json``; health and metrics beside it."""
