"""The server that ships with pijobs: accounts, the API, health; blueprints of plugins on top."""

from pijobs.server.app import create_app

__all__ = ["create_app"]
