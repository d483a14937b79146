"""Who vouches for a bundle: an Ed25519 signature of its manifest, which holds the digest of every other file.

Digests tell that a bundle is as it was written; a signature tells by whom. A deployment that names public keys in
``TOTALANVI_SIGNERS`` opens no bundle that none of them vouches for. Keys are PEM files, as openssl makes them::

    openssl genpkey -algorithm ed25519 -out signer.pem        # stays with whoever exports
    openssl pkey -in signer.pem -pubout -out signers.pem      # goes to whoever serves; one file may hold several
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from totalanvi.serving.bundles.manifest_file import read_manifest
from totalanvi.serving.errors import BundleError, SettingsError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

__all__ = ["SIGNATURE_FILE", "SIGNERS_VARIABLE", "read_signing_key", "require_signature", "sign_bundle"]

SIGNATURE_FILE = "manifest.sig"
SIGNERS_VARIABLE = "TOTALANVI_SIGNERS"

_PURPOSE = b"totalanvi bundle 1\n"
"""Signed along, so that a signature made for something else cannot stand in for one of a bundle."""

_PUBLIC_KEY = re.compile(rb"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", re.DOTALL)


def read_signing_key(file: Path) -> Ed25519PrivateKey:
    """Read the private key that bundles are signed with.

    Raises
    ------
    SettingsError
        When it cannot be read, or is no Ed25519 key.
    """
    _require_cryptography()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    content = _content(file)
    try:
        key = load_pem_private_key(content, password=None)
    except (ValueError, TypeError) as error:
        raise SettingsError(
            f"{file}: expected a private Ed25519 key in PEM, without a password, found something else; make one with "
            "openssl genpkey -algorithm ed25519."
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise SettingsError(
            f"{file}: expected an Ed25519 key, found another kind; make one with openssl genpkey -algorithm ed25519."
        )
    return key


def sign_bundle(folder: Path, key: Ed25519PrivateKey) -> Path:
    """Vouch for a bundle, as it is; returns the file of the signature.

    Raises
    ------
    BundleError
        When there is none.
    """
    signature = key.sign(_PURPOSE + read_manifest(folder))
    file = folder / SIGNATURE_FILE
    file.write_bytes(base64.b64encode(signature) + b"\n")
    return file


def require_signature(folder: Path, manifest: bytes) -> None:
    """Refuse a bundle that none of the keys vouches for which ``TOTALANVI_SIGNERS`` names; without any, take every one.

    Parameters
    ----------
    folder
        The bundle's.
    manifest
        Bytes of its manifest: what is used must be what was signed.

    Raises
    ------
    BundleError
        When it has no signature, or one that no key made.
    SettingsError
        When the keys cannot be read.
    """
    name = os.environ.get(SIGNERS_VARIABLE)
    if not name:
        return
    signers = _read_signers(Path(name))
    try:
        signature = base64.b64decode((folder / SIGNATURE_FILE).read_bytes().strip(), validate=True)
    except OSError as error:
        raise BundleError(
            f"{folder}: expected a signature ({SIGNATURE_FILE}), as {SIGNERS_VARIABLE} asks for one, found none; "
            "export the bundle with --sign KEY, or copy it again."
        ) from error
    except binascii.Error:
        signature = b""
    if not any(_made_by(signer, signature, _PURPOSE + manifest) for signer in signers):
        raise BundleError(
            f"{folder}: expected a signature by one of the {len(signers)} keys in {name}, found another; export the "
            "bundle with --sign KEY, or copy it again."
        )


def _read_signers(file: Path) -> list[Ed25519PublicKey]:
    _require_cryptography()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    blocks = _PUBLIC_KEY.findall(_content(file))
    try:
        keys = [load_pem_public_key(block) for block in blocks]
    except ValueError as error:
        raise SettingsError(f"{file}: expected public keys in PEM, found a damaged one; copy it again.") from error
    signers = [key for key in keys if isinstance(key, Ed25519PublicKey)]
    if not signers or len(signers) < len(keys):
        raise SettingsError(
            f"{file}: expected public Ed25519 keys in PEM ({SIGNERS_VARIABLE}), found {'others' if keys else 'none'}; "
            "make one of a private key: openssl pkey -in KEY -pubout"
        )
    return signers


def _made_by(signer: Ed25519PublicKey, signature: bytes, message: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        signer.verify(signature, message)
    except InvalidSignature:
        return False
    return True


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise SettingsError(
            f"{file}: expected a file of keys, found that it cannot be read ({error.strerror}); check the path and its "
            "permissions."
        ) from error


def _require_cryptography() -> None:
    try:
        import cryptography  # noqa: F401
    except ModuleNotFoundError as error:
        raise SettingsError(
            "Expected the package 'cryptography' for signatures of bundles, found it missing; install the extra that "
            "brings it: pip install 'totalanvi[sign]'"
        ) from error
