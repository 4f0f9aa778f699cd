from tiny_cascade import one_thread

__all__ = ["one_thread"]
