"""TLS of our own, and behind nginx: who calls, by which URL, and uploads that stream through."""

import asyncio
import shutil
import ssl
import subprocess
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest

from librarian.errors import PeerUnavailable
from librarian.wire.uploads import OpenUpload, Upload
from tests.certificates import make_certificate
from tests.crash.harness import free_port, until
from tests.serving import servers
from tests.site_fixtures import Reply, basic

CONTENT = bytes(range(256)) * 20_000
NGINX = """
daemon off;
pid {folder}/pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_max_body_size 0;
    proxy_http_version 1.1;
    proxy_request_buffering off;
    proxy_buffering off;
    proxy_set_header Host $http_host;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_set_header X-Forwarded-Proto $scheme;
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {certificate};
        ssl_certificate_key {certificate}.key;
        location / {{ proxy_pass {upstream}; }}
        location /archive/ {{ proxy_pass {upstream}/; }}
    }}
}}
"""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@contextmanager
def nginx(folder: Path, *, port: int, certificate: Path, upstream: str):
    """A real reverse proxy on *port*."""
    if shutil.which("nginx") is None:
        pytest.skip("needs: nginx")
    folder.mkdir()
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, port=port, certificate=certificate, upstream=upstream))
    process = subprocess.Popen(["nginx", "-c", config, "-e", folder / "error.log"], stdin=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def behind(tmp_path_factory, certificate):
    """A server that trusts its proxy, and the URL of that proxy."""
    folder, port = tmp_path_factory.mktemp("behind"), free_port()
    with servers(folder) as make:
        server = make(top='trusted_proxies = ["127.0.0.1"]')
        with nginx(folder / "nginx", port=port, certificate=certificate, upstream=server.url):
            server.start()
            asyncio.run(server.ready())
            yield server, f"https://127.0.0.1:{port}"


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source"
    path.write_bytes(CONTENT)
    return path


async def call(url: str, certificate: Path, *, source: str, password: str, **headers: str) -> Reply:
    """Ask from the address *source* who we are there."""
    trust = ssl.create_default_context(cafile=certificate)
    connector = aiohttp.TCPConnector(local_addr=(source, 0), ssl=trust)
    headers = {"Authorization": basic("admin", password), **headers}
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.get(f"{url}/api/v1/site", headers=headers) as answer,
    ):
        return Reply(answer.status, answer.headers, await answer.read())


async def test_a_server_with_a_certificate_serves_who_trusts_it(new_server, certificate, source, tmp_path):
    tls = f'[tls]\ncertificate = "{certificate}"\nkey = "{certificate}.key"\n'
    server = new_server(top=tls, certificate=certificate)
    server.start()
    await server.ready()
    async with server.client(ca_file=certificate, shared=False) as client:
        await client.upload(source, "a")
        await client.download("a", tmp_path / "copy")
    stranger = server.client(ca_file=make_certificate(tmp_path), patience=0)

    async with stranger:
        with pytest.raises(PeerUnavailable, match="cannot trust"):
            await stranger.ping()

    assert (tmp_path / "copy").read_bytes() == CONTENT


async def test_uploads_and_downloads_pass_through_a_proxy(behind, certificate, source, tmp_path):
    server, url = behind

    async with server.client(url=url, ca_file=certificate, shared=False) as client:
        await client.upload(source, "through/a")
        await client.download("through/a", tmp_path / "copy")

    assert (tmp_path / "copy").read_bytes() == CONTENT


async def test_bytes_stream_through_a_proxy_before_the_last_is_sent(behind, certificate):
    server, url = behind
    upload = (await server.ask("POST", "/api/v1/uploads", body={"name": "slowly", "size": len(CONTENT)})).json
    trust = ssl.create_default_context(cafile=certificate)
    _, writer = await asyncio.open_connection("127.0.0.1", urlsplit(url).port, ssl=trust)
    head = f"PUT /api/v1/uploads/{upload['id']}/content HTTP/1.1\r\nHost: x\r\nContent-Length: {len(CONTENT)}\r\n"
    writer.write(f"{head}Authorization: {basic('admin', server.password)}\r\n\r\n".encode() + CONTENT[:-1])
    await writer.drain()

    async def has_arrived() -> bool:
        return (await server.ask("GET", f"/api/v1/uploads/{upload['id']}")).json["received"] > len(CONTENT) // 2

    await until(has_arrived)
    # Not closed in peace: nginx waits for the last byte.
    writer.transport.abort()
    with suppress(OSError):
        await writer.wait_closed()


async def test_urls_are_those_of_the_proxy_that_was_called(behind, certificate):
    server, url = behind

    async with server.client(url=url, ca_file=certificate) as client:
        upload = await client.request("POST", "/uploads", body=OpenUpload(name="urls", size=1), answer=Upload)

    assert upload.content_url == f"{url}/api/v1/uploads/{upload.id}/content"


async def test_the_caller_behind_a_proxy_is_throttled_and_logged_and_no_other(behind, certificate):
    server, url = behind
    invented = [{"X-Forwarded-For": f"192.0.2.{number}"} for number in range(7)]

    guesses = [
        (await call(url, certificate, source="127.0.0.5", password="wrong", **headers)).status for headers in invented
    ]
    other = await call(url, certificate, source="127.0.0.6", password="wrong")

    assert guesses[:5] == [401] * 5
    assert guesses[-1] == 429
    assert other.status == 401
    assert "GET /api/v1/site 401" in server.log
    assert " - 127.0.0.5\n" in server.log
    assert "192.0.2." not in server.log


async def test_a_caller_that_no_trusted_proxy_speaks_for_cannot_invent_who_or_where_it_is(live_server):
    guesses = [
        await live_server.call("GET", "/api/v1/site", password="wrong", headers={"X-Forwarded-For": f"192.0.2.{n}"})
        for n in range(7)
    ]
    lie = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "invented"}
    upload = await live_server.call(
        "POST", "/api/v1/uploads", user="uploader", body={"name": "a", "size": 1}, headers=lie
    )

    assert guesses[-1].status == 429
    assert upload.json["content_url"].startswith(live_server.url)


async def test_a_site_below_a_path_of_its_proxy_says_so_in_its_urls(new_server, certificate, source, tmp_path):
    url = f"https://127.0.0.1:{free_port()}/archive"
    server = new_server(top=f'public_url = "{url}"')
    with nginx(tmp_path / "nginx", port=urlsplit(url).port, certificate=certificate, upstream=server.url):
        server.start()
        await server.ready()
        async with server.client(url=url, ca_file=certificate, shared=False) as client:
            await client.upload(source, "a")
        upload = await server.ask("POST", "/api/v1/uploads", body={"name": "b", "size": 1})

    assert upload.json["content_url"].startswith(f"{url}/api/v1/uploads/")
    assert f"serves {url}" in server.log
