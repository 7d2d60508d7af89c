"""A small Python client of Rendermill, and the commands that use it. Speaks HTTP only; imports no server."""

from client.async_client import AsyncClient
from client.batches import Batch, File, LineFailure
from client.catalog import Account, Model
from client.client import Client
from client.errors import (
    ApiError,
    Busy,
    ClientError,
    Conflict,
    InsufficientCredits,
    Invalid,
    JobFailed,
    LineError,
    MissingKey,
    NotFound,
    NotLoaded,
    NotUnderstood,
    Unauthenticated,
    Unreachable,
    WaitTimeout,
)
from client.events import Event
from client.images import Image, Images
from client.jobs import Job

__all__ = [
    "Account",
    "ApiError",
    "AsyncClient",
    "Batch",
    "Busy",
    "Client",
    "ClientError",
    "Conflict",
    "Event",
    "File",
    "Image",
    "Images",
    "InsufficientCredits",
    "Invalid",
    "Job",
    "JobFailed",
    "LineError",
    "LineFailure",
    "MissingKey",
    "Model",
    "NotFound",
    "NotLoaded",
    "NotUnderstood",
    "Unauthenticated",
    "Unreachable",
    "WaitTimeout",
]
