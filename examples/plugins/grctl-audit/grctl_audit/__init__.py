"""A plugin for grctl-client that writes who started what into an SQLite file."""

from grctl_audit.plugin import AuditError, AuditPlugin, acting_as

__all__ = ["AuditError", "AuditPlugin", "acting_as"]
