# docker build --build-arg BUILD_LABEL="$(git describe --always)" -t traffic-analytics .
# Add Pub/Sub, Firestore, Redis, metrics and traces with --build-arg REQUIREMENTS=requirements-full.txt

# The full Python image has the C compiler for gunicorn_h1c, which has no wheels for Linux.
FROM python:3.13 AS build
ARG REQUIREMENTS=requirements.txt
WORKDIR /build
RUN python -m venv /venv
COPY requirements.txt requirements-full.txt ./
# Only requirements-full.txt has gunicorn_h1c, its HTTP parser in C.
RUN sed -n '/^gunicorn-h1c==/,/[^\\]$/p' requirements-full.txt > fast.txt \
 && /venv/bin/pip install --no-cache-dir --require-hashes --only-binary :all: --no-binary gunicorn-h1c \
    --requirement "$REQUIREMENTS" --requirement fast.txt

FROM python:3.13-slim
# A fixed user number; an operator can set the owner of a mounted directory beforehand: chown 10001:10001.
RUN groupadd --gid 10001 traffic \
 && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin traffic \
 && install --directory --owner 10001 --group 10001 --mode 0700 /data
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PORT=3000 DATA_DIR=/data
WORKDIR /app
COPY app.py gunicorn.conf.py ./
COPY traffic_analytics traffic_analytics/
COPY analytics_store analytics_store/
RUN python -m compileall -q .

ARG BUILD_LABEL=""
ENV BUILD_LABEL=$BUILD_LABEL
USER 10001:10001
VOLUME /data
EXPOSE 3000
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 CMD ["python", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['PORT'] or 3000), timeout=2); c.request('GET', '/health'); sys.exit(c.getresponse().status != 200)"]
# Start the store in a container of its own: gunicorn -c analytics_store/gunicorn.conf.py analytics_store.app:app
CMD ["gunicorn", "-c", "gunicorn.conf.py", "app:app"]
