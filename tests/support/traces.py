"""Traces: where a collector is, and somebody whose requests it is told of."""

import httpx2

from tests.support.factories import PASSWORD

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


def sign_in(client: httpx2.Client) -> dict[str, str]:
    form = {"username": "root", "password": PASSWORD}
    return {"Authorization": f"Bearer {client.post('/token', data=form).json()['access_token']}"}
