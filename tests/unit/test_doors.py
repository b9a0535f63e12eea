"""Where a call comes from, and by which URL, as far as proxies may tell."""

import pytest
from aiohttp.test_utils import make_mocked_request

from librarian.doors import Addresses

TLS = {"X-Forwarded-Proto": "https"}


def a_request(*, remote, **headers):
    made = make_mocked_request("GET", "/", headers={"Host": "inner:1", **headers})
    return made.clone(remote=remote)


@pytest.mark.parametrize(
    ("remote", "headers", "expected"),
    [
        ("10.0.0.1", {}, "http://inner:1"),
        ("10.0.0.1", TLS, "https://inner:1"),
        ("10.0.0.1", TLS | {"X-Forwarded-Host": "archive.example.org:8443"}, "https://archive.example.org:8443"),
        ("10.0.0.1", TLS | {"X-Forwarded-Host": "invented, archive.example.org"}, "https://archive.example.org"),
        ("10.0.0.1", {"X-Forwarded-Host": "[fd00::1]:8443"}, "http://[fd00::1]:8443"),
        ("10.0.0.1", {"X-Forwarded-Proto": "javascript", "X-Forwarded-Host": "a/b?c"}, "http://inner:1"),
        ("::ffff:10.0.0.1", TLS, "https://inner:1"),
        ("10.0.0.2", TLS | {"X-Forwarded-Host": "invented"}, "http://inner:1"),
    ],
)
def test_only_a_trusted_proxy_tells_by_which_url_it_was_called(remote, headers, expected):
    request = a_request(remote=remote, **headers)

    assert Addresses(["10.0.0.1"]).base_of(request) == expected


def test_an_address_that_comes_over_a_socket_for_both_families_is_known_by_its_own_form():
    request = a_request(remote="::ffff:10.0.0.1", **{"X-Forwarded-For": "::ffff:192.0.2.7"})

    assert Addresses(["10.0.0.0/8"]).of(request) == "192.0.2.7"
