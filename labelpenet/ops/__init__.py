"""The kernels as functions on torch tensors; each can be used without the rest of the package."""
