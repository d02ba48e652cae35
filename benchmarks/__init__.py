"""Benchmarks: what this client costs, beside what the same work costs by hand. ``scripts/bench`` runs them."""
