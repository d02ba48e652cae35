"""retry for grctl clients."""
