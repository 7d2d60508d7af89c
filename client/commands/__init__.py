"""The commands that speak to a farm by HTTP, one module a resource."""

from __future__ import annotations

import typer

from client.commands import (
    account,
    batches,
    cancel,
    download,
    files,
    jobs,
    models,
    show,
    submit,
    watch,
    webhooks,
)

app = typer.Typer()
for resource in (submit, download, jobs, batches, files, show, watch, cancel, models, account, webhooks):
    app.add_typer(resource.app)
