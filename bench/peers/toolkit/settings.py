"""Django's settings, as for production: no debug, no sessions or pages that an API doesn't use."""

import os
from urllib.parse import parse_qs, unquote, urlsplit

from bench.peers.account import SCOPES, SECRET, TOKEN_SECONDS

_url = urlsplit(os.environ["BENCH_DATABASE_URL"])
_options = parse_qs(_url.query)

DEBUG = False
SECRET_KEY = SECRET
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "bench.peers.toolkit.urls"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "oauth2_provider"]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
]
AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.Argon2PasswordHasher"]

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": _url.path.removeprefix("/"),
        "USER": unquote(_url.username or ""),
        "PASSWORD": unquote(_url.password or ""),
        "HOST": _options.get("host", [_url.hostname])[0],
        "PORT": _options.get("port", [_url.port])[0],
        "CONN_MAX_AGE": None,  # kept for ever
    }
}

OAUTH2_PROVIDER = {
    "SCOPES": dict.fromkeys(SCOPES, "A scope"),
    "ACCESS_TOKEN_EXPIRE_SECONDS": TOKEN_SECONDS,
}
