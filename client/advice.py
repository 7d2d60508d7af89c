"""What to do about an error, in the words of the command line."""

from __future__ import annotations

from client.errors import ClientError, NotFound, Unauthenticated, Unreachable
from client.kinds import kind_named_in


def advised(error: ClientError) -> str:
    """What is wrong, and what to do about it, in one line."""
    words = str(error).rstrip(".")
    match error:
        case Unreachable():
            return f"{words}. Start a farm with 'rendermill up', or name one with --url or RENDERMILL_URL."
        case Unauthenticated():
            return "The farm does not know this API key. Give another with --api-key or RENDERMILL_API_KEY."
        case NotFound() if (kind := kind_named_in(words)) and kind.listed_by:
            return f"{words}; '{kind.listed_by}' lists those of this key's account."
    return str(error)
