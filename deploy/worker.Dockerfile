# The render worker, for one GPU or for the CPU.
#   docker build --file deploy/worker.Dockerfile --tag rendermill-worker .

# Any image with Python 3.11 or newer. The torch wheels bring their own CUDA libraries, so a plain image will do: the
# host needs only the NVIDIA driver and its container toolkit.
ARG BASE_IMAGE=python:3.11-slim
FROM ${BASE_IMAGE}

RUN python3 -m venv /opt/venv && useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin rendermill
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

WORKDIR /app
# The dependencies, torch among them, are a layer of their own: a change of our code does not rebuild gigabytes.
# The readme is no part of the image, but the package's metadata names it.
COPY pyproject.toml constraints.txt LICENSE ./
RUN --mount=type=cache,target=/root/.cache/pip \
    touch README.md && pip install --disable-pip-version-check --constraint constraints.txt '.[worker]'
COPY . .

# Checkpoints, and what the model hub sends, are kept in one volume. The root file system may be read-only; what a
# library wants to write elsewhere goes to /tmp.
ENV HOME=/tmp \
    RENDERMILL_MODELS_DIR=/models \
    HF_HOME=/models/.hub
RUN install --directory --owner=10001 --group=10001 /models
VOLUME /models

USER 10001:10001
EXPOSE 9400
# The first tick comes once torch is imported, which takes a while from a cold disk.
HEALTHCHECK --interval=30s --timeout=15s --start-period=5m --retries=3 CMD ["python", "-m", "worker", "alive"]
CMD ["python", "-m", "worker", "render"]
