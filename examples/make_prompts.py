"""Write prompts.jsonl: python examples/make_prompts.py

The two lines that repaint a picture carry it, and its mask, in themselves, so that every line can be sent as it is.
"""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

PROMPTS = Path(__file__).with_name("prompts.jsonl")
SIDE = 256


def _data_url(picture: Image.Image) -> str:
    file = io.BytesIO()
    picture.save(file, "png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def meadow() -> str:
    """A meadow under a sky, in flat colours that make a small file."""
    picture = Image.new("RGB", (SIDE, SIDE), "#8ec5e8")
    draw = ImageDraw.Draw(picture)
    draw.ellipse((180, 24, 224, 68), fill="#fff3b0")
    draw.polygon([(0, 150), (70, 96), (140, 140), (200, 104), (256, 150)], fill="#6d8f9c")
    draw.rectangle((0, 146, SIDE, SIDE), fill="#5d9b52")
    draw.polygon([(110, 256), (124, 150), (132, 150), (166, 256)], fill="#d8c79a")
    return _data_url(picture.quantize(16))


def mask() -> str:
    """White, to be repainted, where something may stand on the meadow."""
    picture = Image.new("1", (SIDE, SIDE), 0)
    ImageDraw.Draw(picture).ellipse((72, 92, 188, 220), fill=1)
    return _data_url(picture)


def _to(url: str, body: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"method": "POST", "url": url, "body": body, **more}


def lines() -> list[dict[str, Any]]:
    """Every model and every dialect, at sizes that a CPU renders in seconds from tiny checkpoints."""
    return [
        # The native API: the body of a job.
        {
            "model": "stabilityai/stable-diffusion-xl-base-1.0",
            "prompt": "a lighthouse on a cliff at dusk, long exposure, storm clouds",
            "negative_prompt": "people, text, watermark",
            "width": 512,
            "height": 512,
            "num_steps": 10,
            "guidance_scale": 6.5,
            "seed": 7,
            "name": "lighthouse",
        },
        {
            "model": "sdxl-lightning",
            "prompt": "a fox asleep in the snow, watercolour",
            "width": 384,
            "height": 384,
            "seed": 11,
            "n": 3,
            "output_format": "webp",
            "priority": "high",
            "name": "three foxes",
            "metadata": {"series": "animals"},
        },
        {
            "model": "sdxl-lightning",
            "prompt": "the same meadow in autumn, oil on canvas",
            "input_image": meadow(),
            "strength": 0.7,
            "width": SIDE,
            "height": SIDE,
            "seed": 3,
            "name": "autumn",
        },
        {
            "model": "black-forest-labs/FLUX.1-schnell",
            "prompt": "an astronaut reading a newspaper in a quiet café, film grain",
            "width": 512,
            "height": 384,
            "seed": 42,
            "output_format": "png",
            "name": "astronaut",
        },
        {
            "model": "black-forest-labs/FLUX.1-Fill-dev",
            "prompt": "a red barn with a weather vane",
            "input_image": meadow(),
            "mask_image": mask(),
            "width": SIDE,
            "height": SIDE,
            "num_steps": 8,
            "seed": 5,
            "name": "barn",
        },
        # IMG Processing: always 1024 x 1024.
        _to("/v1/images/imagine", {"name": "cat", "prompt": "a cat in a space suit, studio light", "model": "sdxl"}),
        _to("/v1/images/imagine", {"name": "desert", "prompt": "dunes at noon from above", "model": "flux", "seed": 1}),
        # AIGNE Hub and OpenAI.
        _to(
            "/v1/images/generations",
            {
                "model": "dall-e-2",
                "prompt": "a paper boat on a puddle, macro",
                "size": "256x256",
                "n": 2,
                "response_format": "b64_json",
            },
        ),
        _to(
            "/api/images/generations",
            {"prompt": "a photorealistic image of a cat programming on a laptop", "n": 1, "size": "512x512"},
            custom_id="aigne-url",
        ),
        _to(
            "/v1/images/generations",
            {"model": "dall-e-2", "prompt": "a city of glass at sunrise, isometric", "size": "512x512"},
            custom_id="in-the-background",
            headers={"Prefer": "respond-async"},
        ),
        # Hyperbolic.
        _to(
            "/v1/image/generation",
            {
                "model_name": "stabilityai/stable-diffusion-xl-base-1.0",
                "prompt": "a bowl of ripe figs, still life, chiaroscuro",
                "negative_prompt": "blurry",
                "width": 384,
                "height": 384,
                "num_steps": 8,
                "guidance_scale": 5,
                "seed": 2024,
            },
        ),
        _to(
            "/v1/image/generation",
            {
                "model_name": "black-forest-labs/FLUX.1-Fill-dev",
                "prompt": "a hot-air balloon about to lift off",
                "input_image": meadow().partition(",")[2],
                "mask_image": mask().partition(",")[2],
                "width": SIDE,
                "height": SIDE,
                "num_steps": 8,
                "guidance_scale": 30,
                "seed": 9,
            },
        ),
    ]


def text() -> str:
    """The contents of prompts.jsonl."""
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines())


if __name__ == "__main__":
    PROMPTS.write_text(text(), encoding="utf-8")
