"""logging for grctl clients."""
