"""What turns a body into a trusted job, whichever way it came in: over HTTP, or as a line of a batch file.

Knows marshmallow and Pillow; neither Flask, Celery nor torch.
"""
