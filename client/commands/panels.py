"""The groups in which `rendermill --help` shows its commands."""

from __future__ import annotations

MAKE = "Make pictures"
FOLLOW = "Jobs, batches and files"
FARM = "The farm and your account"
OPERATE = "Operate a farm"
