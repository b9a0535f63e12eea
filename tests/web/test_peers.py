"""Adding peers over the API."""

import pytest


@pytest.mark.parametrize("url", ["http://192.0.2.7:21108", "http://librarian.example"])
async def test_a_peer_beyond_loopback_is_called_with_tls_alone(live_server, url):
    body = {"url": url, "username": "chajnantor", "password": "correct horse battery"}

    reply = await live_server.call("PUT", "/api/v1/peers/nersc", user="admin", body=body)

    assert reply.status == 400
    assert "allow_plaintext" in reply.json["remedy"]
    assert "correct horse" not in reply.raw.decode()
