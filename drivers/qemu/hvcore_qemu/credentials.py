"""Secrets and TLS credentials that QEMU receives as objects.

A secret never stands on the command line as it is: it is encrypted with the master key, which QEMU
reads from a private file.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING
from typing import Final

import attrs
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7

from hvcore_qemu.sections.base import MASTER_KEY

if TYPE_CHECKING:
    from hvcore_qemu.command import Command
    from hvcore_qemu.prepare import Preparation

_BLOCK: Final = 16
"""Bytes of an AES block, and so of the initialization vector."""


@attrs.frozen
class Secret:
    """A secret as QEMU gets it.

    :ivar alias: id of the object.
    :ivar iv: initialization vector, base64.
    :ivar data: what is secret, encrypted with AES-256-CBC, base64.
    """

    alias: str
    iv: str
    data: str


def seal(work: Preparation, alias: str, value: bytes) -> Secret:
    """Return ``value`` encrypted with the master key of the domain."""
    iv = work.host.random_bytes(_BLOCK)
    padder = PKCS7(_BLOCK * 8).padder()
    padded = padder.update(value) + padder.finalize()
    encryptor = Cipher(AES(work.resources.master_key), CBC(iv)).encryptor()
    data = encryptor.update(padded) + encryptor.finalize()
    return Secret(alias, base64.b64encode(iv).decode(), base64.b64encode(data).decode())


def tls_secret(work: Preparation, owner: str, uuid: str) -> Secret:
    """Return the password of the private key by which ``owner`` proves who it is.

    :raises HvError: when there is no such secret.
    """
    return seal(work, f"{owner}-secret0", work.host.secret("tls", uuid=uuid))


def secret_object(cmd: Command, secret: Secret) -> None:
    """Append the object of ``secret``."""
    cmd.object(
        {
            "qom-type": "secret",
            "id": secret.alias,
            "data": secret.data,
            "keyid": MASTER_KEY,
            "iv": secret.iv,
            "format": "base64",
        }
    )


def tls_credentials(
    cmd: Command,
    alias: str,
    directory: str,
    *,
    server: bool,
    verify: bool,
    secret: Secret | None = None,
) -> None:
    """Append the object of X.509 credentials, after that of the password of their key.

    :param directory: where certificates and key are.
    :param server: QEMU waits for connections.
    :param verify: clients must show certificates; servers always must.
    """
    if secret is not None:
        secret_object(cmd, secret)
    cmd.object(
        {
            "qom-type": "tls-creds-x509",
            "id": alias,
            "dir": directory,
            "endpoint": "server" if server else "client",
            "verify-peer": verify if server else True,
            "passwordid": None if secret is None else secret.alias,
        }
    )
