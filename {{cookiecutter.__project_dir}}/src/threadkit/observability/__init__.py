"""What a running service tells: log lines, metrics and, where configured, traces.

Nothing is imported here on purpose: ``metrics`` must not be imported before
``PROMETHEUS_MULTIPROC_DIR`` is set, and the master of gunicorn, which sets it, already
logs through this package.
"""
