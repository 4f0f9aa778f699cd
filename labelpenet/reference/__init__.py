"""The ops in plain torch and numpy, equation by equation: what the kernels are tested against."""
