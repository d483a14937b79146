"""A reference at an endpoint, for those who have no bundle: `Client`, and what carries its requests."""

from totalanvi.serving.client.async_client import AsyncClient
from totalanvi.serving.client.client import Client

__all__ = ["AsyncClient", "Client"]
