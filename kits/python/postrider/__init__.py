"""Hands ActivityPub activities over to a Postrider node, which signs and delivers them."""

from ._client import Client, Error
from ._aio import AsyncClient
from ._version import __version__
from ._webhook import InvalidSignature, Webhook

__all__ = ["AsyncClient", "Client", "Error", "InvalidSignature", "Webhook", "__version__"]
