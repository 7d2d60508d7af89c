"""Links to pictures that need no API key."""

from __future__ import annotations

from itsdangerous import BadSignature, URLSafeTimedSerializer

from shared.errors import RendermillError
from shared.images import Image

#: The OpenAI API promises that its links work for an hour.
LINK_LIFETIME_S = 3600


class ImageLinks:
    """Signed links, which work for `LINK_LIFETIME_S` and in every process with the same secret."""

    def __init__(self, secret_key: str, public_url: str) -> None:
        self._signer = URLSafeTimedSerializer(secret_key, salt="image-link") if secret_key else None
        self._public_url = public_url.rstrip("/")

    def url(self, image: Image) -> str:
        """A link to the image. Raises RendermillError `not_ready` where no secret is set."""
        return f"{self._public_url}/images/{image.id}.{image.format}?token={self._required().dumps(image.id)}"

    def allows(self, token: str, image_id: str) -> bool:
        """Whether `token` came from a link to the image that works still."""
        try:
            return self._signer is not None and self._signer.loads(token, max_age=LINK_LIFETIME_S) == image_id
        except BadSignature:
            return False

    def check(self) -> None:
        """Raise RendermillError `not_ready` where no link can be made."""
        self._required()

    def _required(self) -> URLSafeTimedSerializer:
        if self._signer is None:
            raise RendermillError(
                "not_ready", "Links need RENDERMILL_SECRET_KEY to be set on this server; ask for b64_json instead."
            )
        return self._signer
