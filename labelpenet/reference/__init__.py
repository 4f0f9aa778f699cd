"""The ops and metrics in plain torch and numpy, equation by equation: what tests compare with."""
