# The front door; with `python -m worker upkeep` as its command, the upkeep worker. No torch.
#   docker build --file deploy/api.Dockerfile --tag rendermill-api .

# Any image with Python 3.11 or newer; 3.11 is the one that constraints.txt is resolved and tested on.
ARG BASE_IMAGE=python:3.11-slim
FROM ${BASE_IMAGE}

RUN python3 -m venv /opt/venv && useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin rendermill
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1

WORKDIR /app
# The dependencies, and the `rendermill` command, are a layer of their own: a change of our code does not rebuild it.
# The readme is no part of the image, but the package's metadata names it.
COPY pyproject.toml constraints.txt LICENSE ./
RUN --mount=type=cache,target=/root/.cache/pip \
    touch README.md && pip install --disable-pip-version-check --constraint constraints.txt .
COPY . .

# The root file system may be read-only; what a library wants to write goes to /tmp.
ENV HOME=/tmp
USER 10001:10001
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8080/healthz', timeout=4)"]
CMD ["gunicorn", "--config", "python:api.gunicorn", "--bind", "0.0.0.0:8080", "api.app:create_app()"]
