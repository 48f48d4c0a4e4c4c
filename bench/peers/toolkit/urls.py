"""The toolkit's own endpoints, and one resource that it protects."""

from typing import ClassVar

from django.http import HttpRequest, JsonResponse
from django.urls import include, path
from oauth2_provider.views.generic import ScopedProtectedResourceView

from bench.peers.account import CREATED_AT, SCOPES, USER_ID


class MeView(ScopedProtectedResourceView):
    """Who the token stands for, if it carries the scope."""

    required_scopes: ClassVar = ["read:items"]

    def get(self, request: HttpRequest) -> JsonResponse:
        """The small model."""
        return JsonResponse(
            {
                "id": USER_ID,
                "username": request.resource_owner.username,
                "kind": "person",
                "created_at": CREATED_AT,
                "scopes": SCOPES,
                "granted": SCOPES,
            }
        )


urlpatterns = [
    path("o/", include("oauth2_provider.urls", namespace="oauth2_provider")),
    path("users/me", MeView.as_view()),
]
