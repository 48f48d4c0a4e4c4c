"""What the form of a page is bound to, whatever the routes do."""

import uuid
from dataclasses import replace

import pytest
from fastapi import Request

from app.identity.browser_sessions import BrowserLogin
from app.pages.browser import Browser, ForeignForm, cookie_name
from app.runtime import Runtime

REQUEST = Request({"type": "http", "headers": []})


def test_a_form_is_bound_to_its_browser_its_person_and_all_that_it_is_for(runtime: Runtime) -> None:
    alice = BrowserLogin(uuid.uuid4(), uuid.uuid4(), "alice", runtime.now(), ["pwd"])
    browser = Browser(runtime, "a-cookie", is_new=False, login=alice)
    token = browser.form_token("consent", "a request")
    assert browser.check_form(REQUEST, token, "consent", "a request")
    again = replace(browser, login=replace(alice, session_id=uuid.uuid4()))
    assert again.check_form(REQUEST, token, "consent", "a request")
    for other in (
        replace(browser, cookie="another"),
        replace(browser, is_new=True),
        replace(browser, login=None),
        replace(browser, login=replace(alice, user_id=uuid.uuid4())),
    ):
        with pytest.raises(ForeignForm):
            other.check_form(REQUEST, token, "consent", "a request")
    for bound in (
        ("consent",),
        ("consent", "a", "request"),
        ("consenta request",),
        ("consent", ""),
    ):
        with pytest.raises(ForeignForm):
            browser.check_form(REQUEST, token, *bound)


def test_the_cookie_has_the_hosts_prefix_where_people_come_by_https(runtime: Runtime) -> None:
    settings = runtime.settings.model_copy(update={"issuer": "https://auth.example"})
    assert cookie_name(replace(runtime, settings=settings)) == "__Host-scopegate"
    assert cookie_name(runtime) == "scopegate"
