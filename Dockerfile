FROM python:3.13-slim AS build
WORKDIR /srv/scopegate
# The base image's pip installs into it, so that the environment itself needs none.
RUN python -m venv --without-pip .venv
ENV PIP_PYTHON=/srv/scopegate/.venv/bin/python PIP_NO_CACHE_DIR=1
COPY requirements.lock ./
RUN pip install --require-hashes --no-deps --requirement requirements.lock
# Editable, and of one file: a change to the rest of the code installs nothing anew.
COPY pyproject.toml README.md LICENSE ./
COPY app/__init__.py app/
RUN pip install --no-deps --editable .

FROM python:3.13-slim
ENV PATH=/srv/scopegate/.venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SCOPEGATE_ENVIRONMENT=production \
    SCOPEGATE_HOST=0.0.0.0 \
    SCOPEGATE_PORT=8000
WORKDIR /srv/scopegate
# A volume that is mounted here for the first time takes over the folder's owner and mode.
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin scopegate \
    && cd /run && install --directory --owner scopegate --group scopegate --mode 0755 \
        scopegate scopegate/database scopegate/owner-role scopegate/service-role \
        scopegate/metrics scopegate/grafana \
    && install --directory --owner scopegate --group scopegate --mode 0700 \
        scopegate/admin scopegate/orders scopegate/service
COPY --from=build /srv/scopegate/.venv .venv
COPY alembic.ini ./
COPY migrations migrations
COPY app app
# Compiled once, not at each start and for each command. A checkout made under a strict umask can be
# read by its owner only.
RUN python -m compileall -q migrations app && chmod -R a+rX alembic.ini migrations app
USER scopegate
EXPOSE 8000
# Not urllib: it would ask a proxy, where the environment names one. Python itself takes seconds to
# start on a machine that is busy starting replicas.
HEALTHCHECK --interval=5s --timeout=15s --start-period=60s CMD python -c "\
from http.client import HTTPConnection; \
connection = HTTPConnection('127.0.0.1', $SCOPEGATE_PORT, timeout=5); \
connection.request('GET', '/health/ready'); \
exit(connection.getresponse().status != 200)"
CMD ["scopegate", "serve"]
