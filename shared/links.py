"""Links to pictures that need no API key."""

from __future__ import annotations

from itsdangerous import BadSignature, URLSafeTimedSerializer

from shared.errors import RendermillError
from shared.images import Image

#: The OpenAI API promises that its links work for an hour.
LINK_LIFETIME_S = 3600


class ImageLinks:
    """Signed links, for every process with the same secret: working for `LINK_LIFETIME_S`, or as long as the image."""

    def __init__(self, secret_key: str, public_url: str) -> None:
        self._signer = URLSafeTimedSerializer(secret_key, salt="image-link") if secret_key else None
        # What a batch writes down is read days later.
        self._lasting = URLSafeTimedSerializer(secret_key, salt="lasting-image-link") if secret_key else None
        self._public_url = public_url.rstrip("/")

    def url(self, image: Image) -> str:
        """A link to the image. Raises RendermillError `not_ready` where no secret is set."""
        return self._link(image, self._required(self._signer))

    def lasting_url(self, image: Image) -> str:
        """A link that works as long as the image is kept. Raises RendermillError `not_ready` where no secret is set."""
        return self._link(image, self._required(self._lasting))

    def _link(self, image: Image, signer: URLSafeTimedSerializer) -> str:
        return f"{self._public_url}/images/{image.id}.{image.format}?token={signer.dumps(image.id)}"

    def allows(self, token: str, image_id: str) -> bool:
        """Whether `token` came from a link to the image that works still."""
        for signer, lifetime_s in ((self._signer, LINK_LIFETIME_S), (self._lasting, None)):
            try:
                if signer is not None and signer.loads(token, max_age=lifetime_s) == image_id:
                    return True
            except BadSignature:
                continue
        return False

    def check(self) -> None:
        """Raise RendermillError `not_ready` where no link can be made."""
        self._required(self._signer)

    @staticmethod
    def _required(signer: URLSafeTimedSerializer | None) -> URLSafeTimedSerializer:
        if signer is None:
            raise RendermillError(
                "not_ready", "Links need RENDERMILL_SECRET_KEY to be set on this server; ask for b64_json instead."
            )
        return signer
