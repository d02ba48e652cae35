"""The core of grctl-client: protocols, client, handle, models and errors. It knows no transport and no plugin."""

__version__ = "0.1.0"

__all__ = ["__version__"]
