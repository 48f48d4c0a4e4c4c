"""Real proxies before a service: HAProxy as it ships here, and nginx as many run it."""

import os
import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.processes import PATIENCE, ROOT, eventually, free_port

SHIPPED = ROOT / "deploy/proxy/haproxy.cfg"
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
        location / {{
            proxy_pass http://service;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
        }}
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


def nginx_configuration(service: str, port: int, folder: Path) -> str:
    """Return a configuration that keeps its connection to the service, and passes on upgrades."""
    return NGINX.format(folder=folder, port=port, service=urlsplit(service).netloc)


PROXIES = {
    "haproxy": (haproxy_configuration, ("haproxy", "-db", "-f")),
    "nginx": (nginx_configuration, ("nginx", "-c")),
}


@contextmanager
def running_before(service: str, proxy: str, folder: Path) -> Iterator[str]:
    """Run this proxy before the service; the URL through it."""
    configure, command = PROXIES[proxy]
    port = free_port()
    configuration = folder / f"{proxy}.conf"
    configuration.write_text(configure(service, port, folder))
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
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _accepts(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0
