# The prediction service (farshot serve) on processors. docs/serve.md has the commands to build and run it.
FROM python:3.12-slim AS build
WORKDIR /build
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.12-slim
ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    FARSHOT_CACHE=/tmp/farshot \
    HF_HOME=/models/hub \
    HF_HUB_OFFLINE=1
COPY constraints.txt /tmp/constraints.txt
# torch first, from the index of builds without CUDA, which are 2 GB smaller; then all else from PyPI
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-compile -c /tmp/constraints.txt \
        --index-url https://download.pytorch.org/whl/cpu "torch>=2.10" \
    && pip install --no-cache-dir --no-compile -c /tmp/constraints.txt \
        "farshot[serve] @ file://$(echo /wheels/farshot-*.whl)" \
    && python -m compileall -q "$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
    && rm /tmp/constraints.txt
# the service writes nothing: run the container with a read-only file system and no capabilities
USER 10001:10001
WORKDIR /models
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
# other computers reach 0.0.0.0, so it starts only with a key: FARSHOT_API_KEY or --api-key-file
ENTRYPOINT ["farshot", "serve", "--host", "0.0.0.0", "--port", "8000"]
CMD ["/models/adapted"]
