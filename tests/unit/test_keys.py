"""Keys that sites sign with: a signature is somebody's, and a key by which anybody could sign is no key."""

import base64

import pytest

from librarian.keys import SigningKey, is_signed, is_strong

PRIME = 2**255 - 19
#: One of the two of order 8.
ORDER_8 = 2707385501144840649318225287225658788936804267575313519463743609750303402022
#: Every point of small order, by its height; each has two signs, and heights up to 2^255 stand for those below p.
HEIGHTS = [
    0,
    1,
    PRIME - 1,
    PRIME,
    PRIME + 1,
    ORDER_8,
    PRIME - ORDER_8,
]


@pytest.mark.parametrize("height", HEIGHTS)
@pytest.mark.parametrize("sign", [0, 1 << 255])
def test_a_key_of_small_order_is_refused(height, sign):
    key = base64.b64encode((height | sign).to_bytes(32, "little")).decode()
    # Valid for many messages under such a key: the neutral point, and zero.
    forged = base64.b64encode((1).to_bytes(64, "little")).decode()

    assert not is_strong(key)
    assert not any(is_signed(forged, f"{number}", public_key=key) for number in range(16))


@pytest.mark.parametrize("key", ["", "AAAA", "no base64!", "A" * 44])
def test_what_is_no_key_is_refused(key):
    assert not is_strong(key)


def test_a_signature_is_that_of_its_words_and_of_its_key():
    key, other = SigningKey(SigningKey.mint()), SigningKey(SigningKey.mint())
    signature = key.sign("one", "two")

    assert is_strong(key.public)
    assert is_signed(signature, "one", "two", public_key=key.public)
    assert not is_signed(signature, "onetwo", public_key=key.public)
    assert not is_signed(signature, "one", "two", public_key=other.public)
