"""Where finished pictures lie in S3: `outputs/<xx>/<job>-<attempt>-<image number>.<format>`.

`<xx>` are the first characters of the job's id that are random. A folder for each job would cost servers that keep
objects as files, such as the embedded one, about as much as the picture; in a single folder for all of them, finding
those of one job would mean reading the names of all. Among 3,844 folders a million pictures are 260 each.

A key names the attempt, so one that was presumed dead overwrites nothing of the one that replaced it.
"""

from __future__ import annotations

_FOLDER_CHARACTERS = 2


def output_prefix(job_id: str) -> str:
    """How the keys of all a job's pictures begin, whatever attempt stored them, and no other job's."""
    _, _, random = job_id.partition("_")
    return f"outputs/{random[:_FOLDER_CHARACTERS]}/{job_id}-"


def output_key(job_id: str, attempt: int, number: int, format_: str) -> str:
    """The key of one picture; images of a job are numbered from 0."""
    return f"{output_prefix(job_id)}{attempt}-{number}.{format_}"
