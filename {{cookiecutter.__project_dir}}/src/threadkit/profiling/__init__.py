"""Seeing inside a running process: thread dumps, profiles, and Go's format for them.

Go's counterpart is ``runtime/pprof``; the addresses that serve it are in ``admin``. Nothing
here runs, samples or counts until somebody asks, and what was asked is always put back.
"""
