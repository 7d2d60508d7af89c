"""What is inside the files: the picture, and what made it."""

from __future__ import annotations

import io
import json
import re
from typing import Any
from xml.etree import ElementTree

import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.models import Mode
from shared.requests import OUTPUT_FORMATS, RenderRequest
from tests.scheduling import EFFORT
from worker.encoding import encode, parameters_text

TRAINED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
IPTC = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"
PARAMETERS = "{urn:rendermill:parameters}parameters"
RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
#: What the pictures of the tests are made of: a gradient, which every encoder has to work on.
PICTURE = PIL.Image.linear_gradient("L").resize((16, 16)).convert("RGB")

#: Prompts made to break what is written around them.
HOSTILE = [
    "]]>",
    "\"'<&>",
    "{prompt} {0} %s",
    "\0\x01\x1f\x7f\x85",
    "\ud800 half a pair \udfff",
    "\ufffe\uffff",
    "<?xpacket end='r'?>",
    "--> <!-- <![CDATA[",
    "日本語 🦊 e\u0301",
    "line\r\nline\ttab",
]
prompts = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(st.characters(categories=None, exclude_categories=()), min_size=1, max_size=40),
    st.lists(st.sampled_from(HOSTILE), min_size=1).map("".join),
)


def a_request(output_format: str, **fields: Any) -> RenderRequest:
    request = {"prompt": "a red fox", "num_steps": 4, "guidance_scale": 1.5, "seed": 7, "width": 16, "height": 16}
    return RenderRequest(
        **{**request, "model": "sdxl", "mode": Mode.TEXT_TO_IMAGE, "output_format": output_format, **fields}
    )


def opened(data: bytes) -> PIL.Image.Image:
    image = PIL.Image.open(io.BytesIO(data))
    image.load()
    return image


def xmp_of(data: bytes) -> ElementTree.Element:
    """The description in the picture's XMP; fails where that is no well-formed XML."""
    image = opened(data)
    packet = image.info["XML:com.adobe.xmp"] if image.format == "PNG" else image.info["xmp"]
    text = packet if isinstance(packet, str) else packet.decode()
    description = ElementTree.fromstring(re.sub(r"<\?xpacket[^>]*\?>", "", text)).find(f".//{RDF}Description")
    assert description is not None
    return description


def text_of(data: bytes) -> str:
    """The parameters as image tools read them."""
    image = opened(data)
    if image.format == "PNG":
        return str(image.info["parameters"])
    comment = image.getexif().get_ifd(0x8769)[0x9286]
    assert comment.startswith(b"UNICODE\0")
    return bytes(comment[8:]).decode("utf-16-be")


@pytest.mark.parametrize("output_format", OUTPUT_FORMATS)
def test_the_file_is_of_its_format_and_shows_the_picture(output_format: str) -> None:
    image = opened(encode(PICTURE, a_request(output_format), 7))
    assert image.format == output_format.upper()
    assert image.mode == "RGB"
    differences = [abs(a - b) for a, b in zip(image.convert("RGB").tobytes(), PICTURE.tobytes(), strict=True)]
    assert max(differences) <= (0 if output_format == "png" else 8)


@pytest.mark.parametrize("output_format", OUTPUT_FORMATS)
def test_the_file_says_that_a_model_made_it_and_how(output_format: str) -> None:
    request = a_request(output_format, negative_prompt="blue", strength=0.5)
    data = encode(PICTURE, request, 9)
    description = xmp_of(data)
    assert description.get(IPTC) == TRAINED
    parameters = json.loads(description.get(PARAMETERS) or "")
    assert (parameters["prompt"], parameters["seed"], parameters["negative_prompt"]) == ("a red fox", 9, "blue")
    assert [item.text for item in description.iter(f"{RDF}li")] == ["a red fox"]
    assert text_of(data) == parameters_text(request, 9)
    assert text_of(data).endswith(
        "Steps: 4, CFG scale: 1.5, Seed: 9, Size: 16x16, Model: sdxl, Denoising strength: 0.5"
    )


@pytest.mark.parametrize("output_format", OUTPUT_FORMATS)
def test_where_input_images_lie_is_not_told(output_format: str) -> None:
    data = encode(PICTURE, a_request(output_format, input_image="inputs/secret", mask_image="inputs/secret"), 7)
    assert b"inputs/secret" not in data


@pytest.mark.parametrize("output_format", OUTPUT_FORMATS)
def test_the_same_input_gives_the_same_bytes(output_format: str) -> None:
    request = a_request(output_format)
    assert encode(PICTURE, request, 7) == encode(PICTURE.copy(), request, 7)


@pytest.mark.parametrize("output_format", OUTPUT_FORMATS)
@settings(max_examples=60 * EFFORT, derandomize=EFFORT == 1, deadline=None)
@given(prompt=prompts, negative=st.none() | prompts)
def test_no_prompt_breaks_what_is_written(output_format: str, prompt: str, negative: str | None) -> None:
    data = encode(PICTURE, a_request(output_format, prompt=prompt, negative_prompt=negative), 7)
    description = xmp_of(data)
    assert description.get(IPTC) == TRAINED
    assert json.loads(description.get(PARAMETERS) or "")["seed"] == 7
    legible = re.sub("[\0-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]", "\ufffd", prompt)
    assert json.loads(description.get(PARAMETERS) or "")["prompt"] == legible
    assert text_of(data).startswith(legible)


@pytest.mark.parametrize("output_format", OUTPUT_FORMATS)
@pytest.mark.parametrize("character", ['"', "&", "\n", "\\", "\x01", "🦊", "日"])
def test_a_huge_prompt_is_cut_off_rather_than_the_picture_lost(output_format: str, character: str) -> None:
    huge = character * 32_000
    data = encode(PICTURE, a_request(output_format, prompt=huge, negative_prompt=huge), 7)
    assert xmp_of(data).get(IPTC) == TRAINED
    assert "Seed: 7" in text_of(data)
    if output_format == "png":
        assert len(text_of(data)) > 64_000
