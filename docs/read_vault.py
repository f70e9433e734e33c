#!/usr/bin/env python3
"""Reads an Ebbtide vault without Ebbtide. Written from docs/format.md alone.

    pip install cryptography zstandard blake3 xxhash
    read_vault.py VAULT --key-file KEY list
    read_vault.py VAULT --key-file KEY show SNAPSHOT
    read_vault.py VAULT --key-file KEY dump SNAPSHOT DB.COLLECTION > collection.bson
    read_vault.py VAULT --key-file KEY archive ARCHIVE BYTES > archive.tar.gz

VAULT is a local directory (copy a bucket's prefix to one first), KEY the master key file. What `dump` writes is
what `mongorestore` and `bsondump` read. Every hash is checked; damage ends the program with a message.
"""

import argparse
import base64
import json
import struct
import sys
from pathlib import Path

import blake3
import xxhash
import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

SEGMENT, PAGE, MANIFEST, ARCHIVE = 1, 2, 3, 4
DIRECTORY = {SEGMENT: "segments", PAGE: "pages", MANIFEST: "manifests", ARCHIVE: "archives"}
HEADER = struct.Struct("<8sBBHI32s")
BLOCK = struct.Struct("<III32sH")


def derive(secret, salt, info):
    return HKDF(SHA256(), 32, salt or None, info).derive(secret)


def nonce(number):
    return number.to_bytes(12, "little")


class Vault:
    def __init__(self, path, key_text):
        prefix, _, encoded = key_text.strip().partition(":")
        if prefix != "ebbtide-master-key-v1":
            sys.exit("this is no master key of version 1")
        master = base64.b64decode(encoded)
        about = json.loads((path / "vault.json").read_text())
        if (about["format"], about["version"]) != ("ebbtide-vault", 1):
            sys.exit("this is no vault of version 1")
        if derive(master, b"", b"ebbtide v1 fingerprint")[:6].hex() != about["masterKey"]:
            sys.exit(f"the vault belongs to another master key, {about['masterKey']}")
        sealed = base64.b64decode(about["sealedKey"])
        secret = AESGCM(derive(master, sealed[1:33], b"ebbtide v1 secret"))
        self.key = secret.decrypt(nonce(0), sealed[33:], f"vault key of {about['id']}".encode())
        self.path, self.id = path, bytes.fromhex(about["id"])
        self.names = derive(self.key, b"", b"ebbtide v1 names")
        self.blocks = derive(self.key, b"", b"ebbtide v1 blocks")

    def open_block(self, kind, name, salt, number, sealed):
        aad = self.id + bytes([kind]) + name + struct.pack("<I", number)
        try:
            return AESGCM(derive(self.key, salt, b"ebbtide v1 object")).decrypt(nonce(number), sealed, aad)
        except InvalidTag:
            sys.exit(f"{DIRECTORY[kind]} {name.hex()} is damaged at block {number}")

    def read(self, kind, name):
        """Block 0 of an object, its salt, and what lies behind block 0."""
        data = (self.path / "v1" / DIRECTORY[kind] / name.hex()[:2] / name.hex()).read_bytes()
        magic, version, stored_kind, _, first, salt = HEADER.unpack_from(data)
        if (magic, version, stored_kind) != (b"EBBTIDE\0", 1, kind):
            sys.exit(f"{DIRECTORY[kind]} {name.hex()} is damaged: not such an object")
        end = HEADER.size + first
        return self.open_block(kind, name, salt, 0, data[HEADER.size:end]), salt, data[end:]

    def check_name(self, kind, name, *parts):
        if blake3.blake3(bytes([kind]) + b"".join(parts), key=self.names).digest() != name:
            sys.exit(f"{DIRECTORY[kind]} {name.hex()} is damaged: another hash")

    def read_plain(self, kind, name):
        frame, _, _ = self.read(kind, name)
        plain = zstandard.ZstdDecompressor().decompress(frame)
        self.check_name(kind, name, plain)
        return plain

    def manifests(self):
        for file in sorted((self.path / "v1" / "manifests").glob("*/*")):
            if len(file.name) == 64:
                yield json.loads(self.read_plain(MANIFEST, bytes.fromhex(file.name)))

    def lines(self, pages):
        for page in pages:
            lines = self.read_plain(PAGE, bytes.fromhex(page["page"])).splitlines()
            assert len(lines) == page["lines"], "a page has another number of lines"
            yield from map(json.loads, lines)

    def segment(self, name):
        """The documents of a segment, back to back."""
        index, salt, rest = self.read(SEGMENT, name)
        order, count = struct.unpack_from("<BI", index)
        at, entries = 5, []
        for _ in range(count):
            entry = BLOCK.unpack_from(index, at)
            entries.append(entry)
            at += BLOCK.size + entry[4]
        self.check_name(SEGMENT, name, bytes([order]), *(entry[3] for entry in entries))
        plain = []
        for number, (plain_bytes, sealed_bytes, _, block_hash, _) in enumerate(entries, 1):
            frame = self.open_block(SEGMENT, name, salt, number, rest[:sealed_bytes])
            rest = rest[sealed_bytes:]
            block = zstandard.ZstdDecompressor().decompress(frame, max_output_size=plain_bytes)
            if len(block) != plain_bytes or blake3.blake3(block, key=self.blocks).digest() != block_hash:
                sys.exit(f"segment {name.hex()} is damaged at block {number}: another hash")
            plain.append(block)
        return b"".join(plain)

    def archive(self, archive_id, length):
        """The parts of an archive."""
        number = 0
        while length > 0:
            part, _, _ = self.read(ARCHIVE, archive_id + struct.pack(">Q", number))
            yield part
            number, length = number + 1, length - len(part)


def documents(plain):
    at = 0
    while at < len(plain):
        (length,) = struct.unpack_from("<i", plain, at)
        yield plain[at:at + length]
        at += length


class ContentSum:
    """The hash of a collection: XXH3 of each document, added lane by lane."""

    def __init__(self):
        self.count, self.lanes = 0, [0, 0]

    def add(self, plain):
        for document in documents(plain):
            whole = xxhash.xxh3_128_intdigest(document)
            lanes = (whole % 2**64, whole >> 64)
            self.lanes = [(a + b) % 2**64 for a, b in zip(self.lanes, lanes)]
            self.count += 1

    def hex(self):
        return "".join(f"{lane:016x}" for lane in self.lanes)


def find(vault, snapshot):
    for root in vault.manifests():
        if root["header"]["snapshotId"] == snapshot:
            return root
    sys.exit(f"there is no snapshot {snapshot}")


def dump(vault, root, namespace, out):
    for collection in vault.lines(root["collectionPages"]):
        if f"{collection['db']}.{collection['name']}" != namespace:
            continue
        content = ContentSum()
        for entry in vault.lines(collection["segmentPages"]):
            plain = vault.segment(bytes.fromhex(entry["segment"]))
            content.add(plain)
            out.write(plain)
        if (content.count, content.hex()) != (collection["documents"], collection["content"]):
            sys.exit(f"{namespace} is damaged: another count or content hash")
        return
    sys.exit(f"there is no collection {namespace} in this snapshot")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vault", type=Path)
    parser.add_argument("--key-file", type=Path, required=True)
    parser.add_argument("command", choices=["list", "show", "dump", "archive"])
    parser.add_argument("arguments", nargs="*")
    options = parser.parse_args()
    vault = Vault(options.vault, options.key_file.read_text())
    match options.command, options.arguments:
        case "list", []:
            for root in vault.manifests():
                header, totals = root["header"], root["totals"]
                time = header["clusterTime"]
                print(header["snapshotId"], header["projectName"], header["deploymentName"],
                      f"{time['seconds']},{time['increment']}", totals["documents"], totals["bytes"])
        case "show", [snapshot]:
            for collection in vault.lines(find(vault, snapshot)["collectionPages"]):
                print(f"{collection['db']}.{collection['name']}", collection["kind"], collection["documents"],
                      collection["bytes"], collection["content"])
        case "dump", [snapshot, namespace]:
            dump(vault, find(vault, snapshot), namespace, sys.stdout.buffer)
        case "archive", [archive_id, length]:
            for part in vault.archive(bytes.fromhex(archive_id), int(length)):
                sys.stdout.buffer.write(part)
        case _:
            parser.error(f"{options.command} takes other arguments; see --help")


if __name__ == "__main__":
    main()
