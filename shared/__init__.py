"""The language that the front door and the workers both speak.

Knows Redis and S3. Never imports Flask, Celery or torch: `api → shared ← worker`.
"""
