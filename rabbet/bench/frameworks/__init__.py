"""The workloads in each framework: `with_NAME.py` holds BUILDERS, the ways to run each kind.

Only the worker process of a framework imports its file; no file here imports another framework.
"""
