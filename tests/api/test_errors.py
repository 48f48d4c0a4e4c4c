"""What Postgres and the router refuse, as the caller hears it."""

from uuid import UUID

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy.exc import DBAPIError

from app.api.errors import add_error_handlers
from app.api.routing import OAuthRoute


class Refusal(Exception):
    """As the driver raises it."""

    def __init__(self, sqlstate: str | None) -> None:
        super().__init__("in words that are nobody's business")
        self.sqlstate = sqlstate


@pytest.mark.parametrize(
    ("sqlstate", "status"),
    [
        ("22021", 422),
        ("23505", 409),
        ("57P01", 503),
        ("53300", 503),
        ("40P01", 503),
        ("25006", 503),
        ("26000", 503),
        ("42P05", 503),
        ("0A000", 503),
        ("XX000", 503),
        (None, 503),
        ("42601", 500),
    ],
)
async def test_postgres_refusals_have_the_status_that_fits(
    sqlstate: str | None, status: int
) -> None:
    app = FastAPI()
    add_error_handlers(app)

    async def fail() -> None:
        raise DBAPIError("SELECT 1", {}, Refusal(sqlstate))

    app.add_api_route("/fail", fail)
    app.router.add_api_route("/token", fail, methods=["POST"], route_class_override=OAuthRoute)
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.get("/fail")
        assert answer.status_code == status
        assert "nobody's business" not in answer.text
        assert ("retry-after" in answer.headers) == (status == 503)
        if status == 503:
            again = await client.post("/token")
            assert again.json()["error"] == "temporarily_unavailable"


@pytest.mark.parametrize(
    ("path", "taken"),
    [
        ("/items", "GET, HEAD, POST"),
        (f"/items/{UUID(int=7)}", "DELETE, GET, HEAD, PATCH"),
        ("/users/me/sessions", "DELETE, GET, HEAD"),
        ("/token", "POST"),
        ("/docs/assets/swagger-ui.css", "GET, HEAD"),
    ],
)
async def test_who_asks_by_another_method_hears_of_every_one_the_path_takes(
    client: httpx2.AsyncClient, path: str, taken: str
) -> None:
    answer = await client.put(path)
    assert answer.status_code == 405
    assert answer.headers["allow"] == taken
