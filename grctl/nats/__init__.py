"""The NATS transport."""
