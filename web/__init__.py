"""The web application: a page and a JSON API over ``client``; models are the server's business alone.

    browser ─► gunicorn (one process, threads) ─► jobs in a database ─► workers (processes) ─► client ─► Triton
                     └── server-sent events ◄──────────┘

``fleet`` starts and watches the processes, ``app`` makes the Flask application, ``jobs`` is what outlives requests.
"""
