"""The core of grctl-client: protocols, client, handle, models and errors. It knows no transport and no plugin.

PYTEST_DONT_REWRITE: it may be imported before pytest is, which marks all packages of a plugin's distribution.
"""

__version__ = "0.1.0"

__all__ = ["__version__"]
