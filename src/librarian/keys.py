"""Keys: what encrypts the secrets that rest in the catalog, and what a site signs with."""

from __future__ import annotations

import base64
import json
import os
import stat
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidSignature
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from librarian.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


#: Of the curve that the keys are points of.
_PRIME: Final = 2**255 - 19
_D: Final = -121665 * pow(121666, -1, _PRIME) % _PRIME
#: The highest bit of a key says on which side of the axis its point lies.
_SIGN_BIT: Final = 1 << 255


class Secrets:
    """Encrypts what must not be read from a backup of the catalog. The first key in the file encrypts."""

    def __init__(self, key_file: Path) -> None:
        self._fernet = MultiFernet([Fernet(key) for key in _read_keys(key_file)])
        self._key_file = key_file

    def __repr__(self) -> str:
        return f"Secrets({self._key_file})"

    def encrypt(self, text: str) -> bytes:
        """*text*, unreadable without the key file."""
        return self._fernet.encrypt(text.encode())

    def decrypt(self, secret: bytes) -> str:
        """The text that *secret* hides.

        Raises
        ------
        ConfigurationError
            None of the keys fits.
        """
        try:
            return self._fernet.decrypt(secret).decode()
        except InvalidToken as error:
            raise ConfigurationError(
                f"no key in {self._key_file} opens a stored password",
                remedy="Restore the key file that belongs to this catalog, or add the peer again.",
            ) from error


def _read_keys(key_file: Path) -> list[bytes]:
    try:
        # O_EXCL: two starts at once must not each write a key and keep only one.
        descriptor = os.open(key_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        pass
    else:
        with os.fdopen(descriptor, "wb") as file:
            file.write(Fernet.generate_key() + b"\n")
            file.flush()
            os.fsync(file.fileno())
    mode = stat.S_IMODE(key_file.stat().st_mode)
    if mode & 0o077:
        raise ConfigurationError(
            f"{key_file} may be read by others (mode {mode:04o})", remedy=f"Run: chmod 600 {key_file}"
        )
    keys = key_file.read_bytes().split()
    if not keys:
        raise ConfigurationError(f"{key_file} is empty", remedy="Restore it, or remove it and add every peer again.")
    return keys


class SigningKey:
    """An ed25519 key: by it a site shows that it is the same as before."""

    def __init__(self, text: str) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(base64.b64decode(text))

    def __repr__(self) -> str:
        return f"SigningKey({self.public})"

    @staticmethod
    def mint() -> str:
        """The text of a new key."""
        return base64.b64encode(Ed25519PrivateKey.generate().private_bytes_raw()).decode()

    @property
    def public(self) -> str:
        """What others need to verify what we sign, in Base64."""
        return base64.b64encode(self._key.public_key().public_bytes_raw()).decode()

    def sign(self, *parts: str) -> str:
        """Our signature of *parts*, in Base64."""
        return base64.b64encode(self._key.sign(_joined(parts))).decode()


def is_strong(public_key: str) -> bool:
    """Whether *public_key* (Base64) can be anybody's: of the points of small order everybody can make signatures.

    They have the heights 0, 1, -1, and those whose double has the height 0: d y^4 + 2 y^2 = 1 on the curve
    -x^2 + y^2 = 1 + d x^2 y^2.

    Source: RFC 8032, section 5.1.
    """
    try:
        raw = base64.b64decode(public_key, validate=True)
        Ed25519PublicKey.from_public_bytes(raw)
    except ValueError:
        return False
    height = (int.from_bytes(raw, "little") & ~_SIGN_BIT) % _PRIME
    is_of_order_8 = (_D * pow(height, 4, _PRIME) + 2 * height * height - 1) % _PRIME == 0
    return not is_of_order_8 and height not in (0, 1, _PRIME - 1)


def is_signed(signature: str, *parts: str, public_key: str) -> bool:
    """Whether *signature* is that of *parts* by the owner of *public_key*."""
    if not is_strong(public_key):
        return False
    try:
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key, validate=True))
        key.verify(base64.b64decode(signature, validate=True), _joined(parts))
    except (InvalidSignature, ValueError):
        return False
    return True


def _joined(parts: Sequence[str]) -> bytes:
    # JSON, so that no two lists of parts are signed alike.
    return json.dumps(parts, ensure_ascii=False).encode("utf-8", "surrogatepass")
