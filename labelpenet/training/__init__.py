"""Training from image-level tags: the modules in order, each on what the one before it found."""
