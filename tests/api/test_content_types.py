"""OAuth's forms by the media type alone: its parameters say nothing (RFC 6749 appendix B)."""

import httpx2
import pytest

from tests.support.factories import PASSWORD, Someone

FORM = "application/x-www-form-urlencoded"
LOGIN = f"username=Alice&password={PASSWORD}".replace(" ", "+")


async def post(client: httpx2.AsyncClient, body: str, content_type: str) -> httpx2.Response:
    headers = {"Content-Type": content_type}
    return await client.post("/token", content=body.encode(), headers=headers)


@pytest.mark.parametrize(
    "parameters",
    [
        *("; charset=UTF-8", ';charset="UTF-8"', ";", "; charset=utf8", "; charset=ISO-8859-1"),
        *("; charset=us-ascii", "; boundary=----WebKitFormBoundaryABC", "; charset='utf-8'"),
        *("; charset = UTF-8", " ; charset=latin-1", ";charset=utf-8;charset=utf-16", "  "),
        *("; version=1; q=0.5", ";" * 200, "; charset=windows-1252, x"),
    ],
)
async def test_parameters_of_the_media_type_are_ignored(
    client: httpx2.AsyncClient, alice: Someone, parameters: str
) -> None:
    for media_type in (FORM, FORM.upper()):
        answer = await post(client, LOGIN, media_type + parameters)
        assert answer.status_code == 200, answer.text
    for path in ("/revoke", "/introspect"):
        given = {"Content-Type": FORM + parameters}
        answer = await client.post(path, content="token=", headers=given)
        assert answer.status_code == (400 if path == "/revoke" else 401)
        assert "Send the parameters as" not in answer.text
    answer = await post(client, "username=Alice&password=\xe9", FORM + parameters)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


@pytest.mark.parametrize(
    "media_types",
    [
        [f"{FORM}, {FORM}"],
        [FORM, FORM],
        [FORM, "application/json"],
        [f"{FORM}+json"],
        [f"x{FORM}"],
        ["; charset=utf-8"],
        [f"text/plain; {FORM}"],
    ],
)
async def test_more_than_one_media_type_or_another_is_no_form(
    client: httpx2.AsyncClient, alice: Someone, media_types: list[str]
) -> None:
    headers = [("Content-Type", each) for each in media_types]
    answer = await client.post("/token", content=LOGIN, headers=headers)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
