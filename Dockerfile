# The image of the worker, the store and all other commands. Built from the lock, hash by hash.
ARG PYTHON=3.12.12-slim-bookworm

FROM python:${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY requirements/product.lock requirements/build.lock requirements/
RUN python -m venv /opt/floodwatch \
    && /opt/floodwatch/bin/pip install --require-hashes --requirement requirements/product.lock \
    && python -m venv /opt/build \
    && /opt/build/bin/pip install --require-hashes --requirement requirements/build.lock
COPY pyproject.toml README.md LICENSE ./
COPY dashboards dashboards
COPY detectors detectors
COPY docs/runbooks docs/runbooks
COPY monitor monitor
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheel . \
    && /opt/floodwatch/bin/pip install --no-deps /wheel/floodwatch-*.whl

FROM python:${PYTHON}
RUN groupadd --system --gid 10001 floodwatch \
    && useradd --system --uid 10001 --gid floodwatch --home-dir /var/lib/floodwatch floodwatch \
    && install --directory --owner floodwatch --group floodwatch /var/lib/floodwatch
COPY --from=build /opt/floodwatch /opt/floodwatch
# Numba keeps the compiled kernels where the process may write.
ENV PATH=/opt/floodwatch/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    NUMBA_CACHE_DIR=/var/lib/floodwatch/kernels
USER 10001:10001
WORKDIR /var/lib/floodwatch
VOLUME /var/lib/floodwatch
ENTRYPOINT ["floodwatch"]
CMD ["--help"]
