"""reference."""

from labelpenet.reference.dense_crf import dense_crf_exact, dense_crf_lattice

__all__ = ["dense_crf_exact", "dense_crf_lattice"]
