"""Real proxies before a service: HAProxy as it ships here, and nginx as many run it."""

import os
import re
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.support.documents import SERVED_AT, Document
from tests.support.processes import PATIENCE, ROOT, eventually, free_port, serving

SHIPPED = ROOT / "deploy/proxy/haproxy.cfg"
BY_DEFAULT = "nginx by default"
LOCATION = """
        location / {
            proxy_pass http://service;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
        }
"""
BELOW_A_PATH = ("docs/how-to/clients-and-gateways.md", "nginx")
"""The page and the heading of the configuration that serves Scopegate below a path."""
NGINX = """
daemon off;
master_process off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream service {{
        server {service};
        # One connection for all clients: who comes next gets what the last one left there.
        keepalive 1;
    }}
    map $http_upgrade $connection_upgrade {{
        default upgrade;
        "" "";
    }}
    client_body_timeout 5s;
    server {{
        listen 127.0.0.1:{port};
        {locations}
    }}
}}
"""


def haproxy_configuration(service: str, port: int, _folder: Path) -> str:
    """Return the file as it ships, but for its addresses: Docker resolves the replicas' name."""
    shipped = SHIPPED.read_text()
    for pattern, instead in (
        (r"bind :8000$", f"bind 127.0.0.1:{port}"),
        (r"server-template api 20 api:8000 .*$", f"server api {urlsplit(service).netloc} check"),
    ):
        shipped, replaced = re.subn(pattern, instead, shipped, flags=re.M)
        assert replaced == 1, pattern
    return shipped


def nginx_configuration(service: str, port: int, folder: Path, locations: str = LOCATION) -> str:
    """Return a configuration that keeps its connection to the service, and passes on upgrades."""
    netloc = urlsplit(service).netloc
    return NGINX.format(folder=folder, port=port, service=netloc, locations=locations)


def nginx_by_default(service: str, port: int, folder: Path) -> str:
    """Return a configuration that leaves all to nginx: HTTP/1.0 to the service, and buffers."""
    return nginx_configuration(service, port, folder, "location / { proxy_pass http://service; }")


PROXIES: dict[str, tuple[Callable[[str, int, Path], str], tuple[str, ...]]] = {
    "haproxy": (haproxy_configuration, ("haproxy", "-db", "-f")),
    "nginx": (nginx_configuration, ("nginx", "-c")),
}


@contextmanager
def below_a_path(path: str, folder: Path, **settings: Any) -> Iterator[str]:
    """Serve behind nginx, which strips the path as the guide has it; the issuer."""
    port, issuer_port = free_port(), free_port()
    issuer = f"http://127.0.0.1:{issuer_port}{path}"
    locations = LOCATION
    if path:
        name, heading = BELOW_A_PATH
        (block,) = (each for each in Document(name).blocks("nginx") if each.heading == heading)
        locations = block.text.replace("/auth", path).replace(SERVED_AT, f"http://127.0.0.1:{port}")
    configuration = nginx_configuration(f"http://127.0.0.1:{port}", issuer_port, folder, locations)
    with (
        serving(port=port, issuer=issuer, trusted_proxies="127.0.0.1", **settings),
        running(PROXIES["nginx"][1], configuration, issuer_port, folder),
    ):
        yield issuer


@contextmanager
def running_before(service: str, proxy: str, folder: Path) -> Iterator[str]:
    """Run this proxy before the service; the URL through it."""
    configure, command = (PROXIES | {BY_DEFAULT: (nginx_by_default, ("nginx", "-c"))})[proxy]
    port = free_port()
    with running(command, configure(service, port, folder), port, folder):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def running(command: Sequence[str], configured: str, port: int, folder: Path) -> Iterator[None]:
    """Run a proxy with this configuration, until it accepts connections."""
    configuration = folder / "proxy.conf"
    configuration.write_text(configured)
    path = os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin"
    log = folder / "output"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, configuration],
            env=os.environ | {"PATH": path},
            stdout=output,
            stderr=output,
        )
    try:
        eventually(lambda: _accepts(port) or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _accepts(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0
