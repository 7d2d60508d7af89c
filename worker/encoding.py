"""Pictures as files: JPEG, PNG or WebP, with what made them written inside.

Nothing that differs between two renders of the same request is written (no time, no id), so the same request with
the same seed gives the same bytes.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from xml.sax.saxutils import escape, quoteattr

from PIL import Image, PngImagePlugin

from shared.requests import RenderRequest

#: Level 6, the default, costs 0.6 s of CPU for a 1024×1024 picture; level 1 a tenth of that for a few percent of size.
_PNG_COMPRESSION = 1
#: The fastest of WebP's search efforts that still beats JPEG in size.
_WEBP_METHOD = 2

_EXIF_IFD = 0x8769
_EXIF_USER_COMMENT = 0x9286
_EXIF_SOFTWARE = 0x0131

#: What XML 1.0 cannot hold in any spelling: control characters, halves of surrogate pairs, two noncharacters.
_NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
#: Characters of each prompt that go into XMP and EXIF. JPEG keeps each of them in one segment of 64 kB, and in XMP
#: a character that is escaped takes up to 19 bytes: 7 of each prompt in the parameters, 5 in the description.
_PROMPT_KEPT = 3000

#: IPTC's term for a picture made by a trained model:
#: the NewsCodes vocabulary "Digital Source Type".
_DIGITAL_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"

_XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about=""
 xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
 xmlns:xmp="http://ns.adobe.com/xap/1.0/"
 xmlns:dc="http://purl.org/dc/elements/1.1/"
 xmlns:rendermill="urn:rendermill:parameters"
 Iptc4xmpExt:DigitalSourceType="{source_type}"
 xmp:CreatorTool="Rendermill"
 rendermill:parameters={parameters}>
<dc:description><rdf:Alt><rdf:li xml:lang="x-default">{prompt}</rdf:li></rdf:Alt></dc:description>
</rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="r"?>"""


def encode(image: Image.Image, request: RenderRequest, seed: int) -> bytes:
    """The picture as a file in the request's format, with its parameters inside.

    They are written for three kinds of reader: as XMP, with IPTC's mark of a generated picture; and as the text that
    image tools show for generated pictures, in PNG's `parameters` and elsewhere EXIF's UserComment. Characters that
    XML does not know are replaced, and except in PNG's text, prompts are cut off after some thousand characters.
    """
    out = io.BytesIO()
    request = _with_prompts(request, _legible)
    brief = _with_prompts(request, _shortened)
    xmp, quality = _xmp(brief, seed), request.output_quality
    match request.output_format:
        case "png":
            info = PngImagePlugin.PngInfo()
            info.add_itxt("parameters", parameters_text(request, seed))
            info.add_itxt("XML:com.adobe.xmp", xmp.decode())
            image.save(out, "PNG", compress_level=_PNG_COMPRESSION, pnginfo=info)
        case "webp":
            image.save(out, "WEBP", quality=quality, method=_WEBP_METHOD, xmp=xmp, exif=_exif(brief, seed))
        case _:
            image.save(out, "JPEG", quality=quality, xmp=xmp, exif=_exif(brief, seed))
    return out.getvalue()


def parameters_text(request: RenderRequest, seed: int) -> str:
    """The parameters in the form that image tools know: the prompt, the negative prompt, then pairs."""
    lines = [request.prompt]
    if request.negative_prompt:
        lines.append(f"Negative prompt: {request.negative_prompt}")
    pairs = [
        f"Steps: {request.num_steps}",
        *([f"Sampler: {request.scheduler}"] if request.scheduler else []),
        f"CFG scale: {request.guidance_scale:g}",
        f"Seed: {seed}",
        f"Size: {request.width}x{request.height}",
        f"Model: {request.model}",
    ]
    if request.loras:
        pairs.append(f"Loras: {' '.join(map(str, request.loras))}")
    if request.strength is not None:
        pairs.append(f"Denoising strength: {request.strength:g}")
    return "\n".join([*lines, ", ".join(pairs)])


def _with_prompts(request: RenderRequest, change: Callable[[str], str]) -> RenderRequest:
    negative = request.negative_prompt
    return replace(request, prompt=change(request.prompt), negative_prompt=negative and change(negative))


def _legible(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)


def _shortened(text: str) -> str:
    return text if len(text) <= _PROMPT_KEPT else text[: _PROMPT_KEPT - 1] + "…"


def _xmp(request: RenderRequest, seed: int) -> bytes:
    shown = {name: value for name, value in request.to_dict().items() if name not in {"input_image", "mask_image", "n"}}
    parameters = json.dumps(shown | {"seed": seed}, ensure_ascii=False, sort_keys=True)
    return _XMP.format(
        source_type=_DIGITAL_SOURCE_TYPE, parameters=quoteattr(parameters), prompt=escape(request.prompt)
    ).encode()


def _exif(request: RenderRequest, seed: int) -> Image.Exif:
    exif = Image.Exif()
    exif[_EXIF_SOFTWARE] = "Rendermill"
    text = parameters_text(request, seed)
    exif.get_ifd(_EXIF_IFD)[_EXIF_USER_COMMENT] = b"UNICODE\0" + text.encode("utf-16-be")
    return exif
