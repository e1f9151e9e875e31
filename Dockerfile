# The checkout with all that `make venv` installs, for a CPU or, under the NVIDIA container runtime, a GPU:
#   docker build -t nanollama .
#   docker run --rm -it -v "$PWD/runs:/nanollama/runs" nanollama nanollama train apps/memory/config/debug.yaml
# For `nanollama watch` from outside, let the container share the network of the machine (`--network host`): the page
# is served to 127.0.0.1 alone.
FROM python:3.12-slim

RUN apt-get update \
    && apt-get install -y --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home nanollama \
    && install --directory --owner=nanollama /nanollama
USER nanollama
WORKDIR /nanollama

# The environment first: it is made anew only when what is needed has changed.
COPY --chown=nanollama pyproject.toml constraints.txt Makefile README.md LICENSE ./
COPY --chown=nanollama src/nanollama/__init__.py src/nanollama/__init__.py
RUN make venv
ENV PATH=/nanollama/.venv/bin:$PATH

COPY --chown=nanollama . .
CMD ["nanollama", "--help"]
