"""How far an op may be from its float64 reference: one table, by dtype of the computation."""

import torch

# relative to the largest magnitude of the reference
TOLERANCE = {
    torch.float64: 1e-10,
    torch.float32: 2e-5,
    torch.float16: 2e-3,
    torch.bfloat16: 2e-2,
}


def assert_near(
    got: torch.Tensor, reference: torch.Tensor, dtype: torch.dtype, factor: float = 1.0
) -> None:
    """`got` equals `reference` within TOLERANCE[dtype] * factor of the largest reference value."""
    assert got.shape == reference.shape, (
        f"shape {list(got.shape)}, expected {list(reference.shape)}"
    )
    assert torch.isfinite(got).all(), "not finite"
    if got.numel() == 0:
        return
    reference = reference.to(torch.float64)
    error = (got.to(torch.float64) - reference).abs().max()
    limit = TOLERANCE[dtype] * factor * max(float(reference.abs().max()), 1e-30)
    assert float(error) <= limit, f"largest error {float(error):.3e}, allowed {limit:.3e}"
