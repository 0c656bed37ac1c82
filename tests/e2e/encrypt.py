#!/usr/bin/env python3
"""encrypt.py SQUASHFS DIR SECRET [PUBLIC.pem]: what gocryptfs would make of the file: DIR/gocryptfs.conf, DIR/squashfs-1;
and DIR/../message, the secret wrapped for the RSA key. A cheap scrypt, since only the reader is tested."""
import base64
import hashlib
import json
import os
import sys

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import load_pem_public_key

INFO = b"AES-GCM file content encryption"


def content_cipher(key):
    return AESGCM(HKDF(hashes.SHA256(), 32, None, INFO).derive(key))


def seal(cipher, plain, about):
    nonce = os.urandom(16)
    return nonce + cipher.encrypt(nonce, plain, about)


source, folder, secret = sys.argv[1:4]
os.makedirs(folder)
salt, master, file_id = os.urandom(32), os.urandom(32), os.urandom(16)
wrapping = content_cipher(hashlib.scrypt(secret.encode(), salt=salt, n=1024, r=8, p=1, dklen=32))
with open(f"{folder}/gocryptfs.conf", "w") as f:
    json.dump(
        {
            "Creator": "a test",
            "EncryptedKey": base64.b64encode(seal(wrapping, master, bytes(8))).decode(),
            "ScryptObject": {"Salt": base64.b64encode(salt).decode(), "N": 1024, "R": 8, "P": 1, "KeyLen": 32},
            "Version": 2,
            "FeatureFlags": ["HKDF", "GCMIV128", "PlaintextNames"],
        },
        f,
    )
cipher = content_cipher(master)
with open(source, "rb") as plain, open(f"{folder}/squashfs-1", "wb") as f:
    f.write(b"\0\2" + file_id)
    for number, block in enumerate(iter(lambda: plain.read(4096), b"")):
        f.write(seal(cipher, block, number.to_bytes(8, "big") + file_id))
if len(sys.argv) > 4:
    key = load_pem_public_key(open(sys.argv[4], "rb").read())
    box = key.encrypt(secret.encode(), padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None))
    der = b"\x04\x82" + len(box).to_bytes(2, "big") + box
    with open(f"{folder}/../message", "w") as f:
        f.write("-----BEGIN MESSAGE-----\n" + base64.encodebytes(der).decode() + "-----END MESSAGE-----\n")
