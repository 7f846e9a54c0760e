"""PEM files of every kind, fit and unfit, for a configuration to name."""

from __future__ import annotations

import datetime
import os
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID


def write_pems(directory: Path) -> None:
    """Pairs a and b; an encrypted key; an RSA key; a revocation list; an empty file; a pipe without a writer."""
    for name in ("a", "b"):
        key = ec.generate_private_key(ec.SECP256R1())
        (directory / f"{name}.crt").write_bytes(certificate(key).public_bytes(serialization.Encoding.PEM))
        (directory / f"{name}.key").write_bytes(pem_of(key, serialization.NoEncryption()))
    (directory / "locked.key").write_bytes(pem_of(key, serialization.BestAvailableEncryption(b"secret")))
    (directory / "revoked.crl").write_bytes(revocations(key).public_bytes(serialization.Encoding.PEM))
    (directory / "rsa.key").write_bytes(pem_of(rsa.generate_private_key(65537, 2048), serialization.NoEncryption()))
    (directory / "empty").touch()
    os.mkfifo(directory / "pipe")


_NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "worker")])
_NOW = datetime.datetime(2026, 1, 1)
_LATER = datetime.datetime(2036, 1, 1)


def certificate(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    blank = x509.CertificateBuilder().subject_name(_NAME).issuer_name(_NAME).public_key(key.public_key())
    dated = blank.serial_number(1).not_valid_before(_NOW).not_valid_after(_LATER)
    return dated.sign(key, hashes.SHA256())


def revocations(key: ec.EllipticCurvePrivateKey) -> x509.CertificateRevocationList:
    blank = x509.CertificateRevocationListBuilder().issuer_name(_NAME)
    return blank.last_update(_NOW).next_update(_LATER).sign(key, hashes.SHA256())


def pem_of(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, lock: serialization.KeySerializationEncryption
) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)
