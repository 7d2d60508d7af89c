"""A small Python client of Rendermill, and the commands that use it. Speaks HTTP only; imports no server."""

from client.client import Client
from client.errors import ApiError, ClientError, Unreachable, WaitTimeout
from client.jobs import Image, Job

__all__ = ["ApiError", "Client", "ClientError", "Image", "Job", "Unreachable", "WaitTimeout"]
