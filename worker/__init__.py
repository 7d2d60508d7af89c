"""Jobs in, pictures out. Knows Celery; torch and diffusers live only in `worker.engine`."""
