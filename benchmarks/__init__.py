"""Every op against its reference and against the best peer, on the same inputs in the same run.

`pytest benchmarks` or `python -m benchmarks`; both check that a result is right before timing it.
"""
