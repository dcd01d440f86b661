# The image of the command line. docs/install.md shows how to build and run it.
ARG BASE=debian:trixie-slim
FROM ${BASE}

# cuda: PyTorch for NVIDIA GPUs, which also runs without one. cpu: PyTorch without CUDA, smaller.
ARG TORCH=cuda

RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
        ca-certificates make python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*

# The libraries come first, so that a change of the sources does not install them again.
WORKDIR /opt/pseudolabels
COPY Makefile requirements.lock ./
RUN PIP_NO_CACHE_DIR=1 UV_NO_CACHE=1 UV_COMPILE_BYTECODE=1 make libraries TORCH=${TORCH}

COPY . .
RUN UV_NO_CACHE=1 make setup TORCH=${TORCH} \
    && .venv/bin/python -m compileall -q pipeline stages storage flows pseudolabels.py

# Any user may write here, so that `--user` can name the owner of what is written.
RUN useradd --uid 1000 --create-home pseudolabels \
    && install --directory --mode 1777 /home/pseudolabels /home/pseudolabels/.prefect /cache /work

ENV PATH=/opt/pseudolabels/.venv/bin:$PATH \
    HOME=/home/pseudolabels \
    USER=pseudolabels \
    XDG_CACHE_HOME=/cache \
    PSEUDOLABELS_CACHE=/cache/pseudolabels \
    PREFECT_HOME=/home/pseudolabels/.prefect \
    PREFECT_SERVER_UI_STATIC_DIRECTORY=/home/pseudolabels/.prefect/ui \
    PREFECT_SERVER_ANALYTICS_ENABLED=false \
    DO_NOT_TRACK=1

USER 1000
WORKDIR /work
VOLUME ["/cache", "/work"]
EXPOSE 4200
ENTRYPOINT ["pseudolabels"]
CMD ["--help"]
