"""Bundles that somebody vouches for, and deployments that take no others; keys are made with openssl's formats."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from totalanvi.serving.bundles.bundle import Bundle
from totalanvi.serving.bundles.manifest import MANIFEST_FILE
from totalanvi.serving.bundles.signature import (
    SIGNATURE_FILE,
    SIGNERS_VARIABLE,
    read_signing_key,
    sign_bundle,
)
from totalanvi.serving.errors import BundleError, SettingsError

PrivateKey = ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


def private_pem(key: PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def public_pem(key: PrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


@pytest.fixture(scope="module")
def key() -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.generate()


@pytest.fixture(scope="module")
def other() -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.generate()


@pytest.fixture
def signed(toy_folder: Path, tmp_path: Path, key: ed25519.Ed25519PrivateKey) -> Path:
    folder = shutil.copytree(toy_folder, tmp_path / "signed")
    (tmp_path / "signer.pem").write_bytes(private_pem(key))
    sign_bundle(folder, read_signing_key(tmp_path / "signer.pem"))
    return folder


def trust(monkeypatch: pytest.MonkeyPatch, file: Path, *keys: PrivateKey) -> None:
    file.write_bytes(b"# who exports here\n" + b"".join(public_pem(key) for key in keys))
    monkeypatch.setenv(SIGNERS_VARIABLE, str(file))


def test_a_bundle_of_a_trusted_signer_is_opened(
    signed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    key: ed25519.Ed25519PrivateKey,
    other: ed25519.Ed25519PrivateKey,
) -> None:
    assert Bundle.open(signed).manifest.name == "toy"
    trust(monkeypatch, tmp_path / "signers.pem", other, key)
    assert Bundle.open(signed).manifest.name == "toy"


def test_no_other_is(
    signed: Path,
    toy_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    key: ed25519.Ed25519PrivateKey,
    other: ed25519.Ed25519PrivateKey,
) -> None:
    trust(monkeypatch, tmp_path / "signers.pem", other)
    with pytest.raises(BundleError, match="by one of the 1 keys"):
        Bundle.open(signed)
    trust(monkeypatch, tmp_path / "signers.pem", key)
    with pytest.raises(BundleError, match="found none; export the bundle with --sign"):
        Bundle.open(toy_folder)
    for damaged in (b"", b"no base64!", b"AAAA"):
        (signed / SIGNATURE_FILE).write_bytes(damaged)
        with pytest.raises(BundleError, match="expected a signature"):
            Bundle.open(signed)


def test_a_signature_is_of_these_bytes(
    signed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: ed25519.Ed25519PrivateKey
) -> None:
    trust(monkeypatch, tmp_path / "signers.pem", key)
    manifest = signed / MANIFEST_FILE
    manifest.write_bytes(manifest.read_bytes() + b"\n")
    with pytest.raises(BundleError, match="found another"):
        Bundle.open(signed)


def test_the_model_store_keeps_the_signature(
    signed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: ed25519.Ed25519PrivateKey
) -> None:
    trust(monkeypatch, tmp_path / "signers.pem", key)
    code = """
import sys
import bentoml
from totalanvi.export.store import store_bundle
from totalanvi.serving.bundles.bundle import Bundle
print(Bundle.open(bentoml.models.get(store_bundle(Bundle.open(sys.argv[1]))).path).manifest.name)
"""
    environment = os.environ | {"BENTOML_HOME": str(tmp_path / "store"), "BENTOML_DO_NOT_TRACK": "True"}
    stored = subprocess.run(
        [sys.executable, "-c", code, signed], check=True, env=environment, capture_output=True, text=True, timeout=120
    )
    assert stored.stdout.split() == ["toy"]


def test_what_is_no_key_is_told(tmp_path: Path, toy_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "key.pem"
    with pytest.raises(SettingsError, match="cannot be read"):
        read_signing_key(file)
    file.write_bytes(b"no key")
    with pytest.raises(SettingsError, match="openssl genpkey"):
        read_signing_key(file)
    wrong = rsa.generate_private_key(65537, 2048)
    file.write_bytes(private_pem(wrong))
    with pytest.raises(SettingsError, match="another kind"):
        read_signing_key(file)

    monkeypatch.setenv(SIGNERS_VARIABLE, str(file))
    for content in (b"no key", public_pem(wrong), b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"):
        file.write_bytes(content)
        with pytest.raises(SettingsError, match="public"):
            Bundle.open(toy_folder)
    monkeypatch.setenv(SIGNERS_VARIABLE, str(tmp_path / "nowhere.pem"))
    with pytest.raises(SettingsError, match="cannot be read"):
        Bundle.open(toy_folder)
