"""tracing for grctl clients."""
