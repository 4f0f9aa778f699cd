"""ICN (Huang et al., 2021): peaks of a classifier, enhanced to instances by a network of their own.

docs/icn.md says how its parts work together and where they differ from the paper.
"""
