#!/usr/bin/env python3
"""Reads an Ebbtide vault without Ebbtide. Written from docs/format.md alone.

    pip install cryptography zstandard blake3 xxhash
    read_vault.py VAULT --key-file KEY list
    read_vault.py VAULT --key-file KEY show SNAPSHOT
    read_vault.py VAULT --key-file KEY dump SNAPSHOT DB.COLLECTION > collection.bson
    read_vault.py VAULT --key-file KEY archive ARCHIVE BYTES > archive.tar.gz
    read_vault.py VAULT --key-file KEY slices
    read_vault.py VAULT --key-file KEY slices TIMELINE > oplog.bson

VAULT is a local directory (copy a bucket's prefix to one first), KEY the master key file. What `dump` writes is
what `mongorestore` and `bsondump` read, and so is what
`slices` writes: the entries of a timeline, in order. Every hash is checked; damage ends the program with a message.
The changes of one collection that a snapshot has in deltas are held in memory.
"""

import argparse
import base64
import bisect
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

from read_vault_changes import changed, documents

SEGMENT, PAGE, MANIFEST, ARCHIVE, SLICE, DELTA = 1, 2, 3, 4, 5, 6
DIRECTORY = {SEGMENT: "segments", PAGE: "pages", MANIFEST: "manifests", ARCHIVE: "archives", SLICE: "slices",
             DELTA: "deltas"}
HEADER = struct.Struct("<8sBBHI32s")
BLOCK = struct.Struct("<III32sH")
RECORD = struct.Struct("<16sQQBII")


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
                root = json.loads(self.read_plain(MANIFEST, bytes.fromhex(file.name)))
                if root["format"] != "ebbtide-manifest" or root["version"] > 2:
                    sys.exit(f"manifests {file.name} is no manifest of version 1 or 2")
                yield root

    def lines(self, pages, as_of):
        """The lines of pages, with the times that they leave out: that of their reference, or `as_of` above it."""
        for page in pages:
            lines = self.read_plain(PAGE, bytes.fromhex(page["page"])).splitlines()
            assert len(lines) == page["lines"], "a page has another number of lines"
            for line in map(json.loads, lines):
                for timed in [line, *line.get("segmentPages", [])]:
                    timed.setdefault("asOf", page.get("asOf", as_of))
                yield line

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
        return self.data_blocks(SEGMENT, name, salt, rest, [(entry[0], entry[1], entry[3]) for entry in entries])

    def data_blocks(self, kind, name, salt, rest, entries):
        """What lies in the blocks behind block 0; of each are known plain and sealed bytes, and the hash."""
        plain = []
        for number, (plain_bytes, sealed_bytes, block_hash) in enumerate(entries, 1):
            frame = self.open_block(kind, name, salt, number, rest[:sealed_bytes])
            rest = rest[sealed_bytes:]
            block = zstandard.ZstdDecompressor().decompress(frame, max_output_size=plain_bytes)
            if len(block) != plain_bytes or blake3.blake3(block, key=self.blocks).digest() != block_hash:
                sys.exit(f"{DIRECTORY[kind]} {name.hex()} is damaged at block {number}: another hash")
            plain.append(block)
        if rest:
            sys.exit(f"{DIRECTORY[kind]} {name.hex()} is damaged: there are bytes behind its last block")
        return b"".join(plain)

    def with_json(self, kind, name, expected):
        """Block 0 of a slice or a delta, and a function that gives what is in the others, back to back."""
        frame, salt, rest = self.read(kind, name)
        plain = zstandard.ZstdDecompressor().decompress(frame)
        self.check_name(kind, name, plain)
        root = json.loads(plain)
        if (root["format"], root["version"]) != (expected, 1):
            sys.exit(f"{DIRECTORY[kind]} {name.hex()} is no {expected} of version 1")
        blocks = [(b["bytes"], b["storedBytes"], bytes.fromhex(b["hash"])) for b in root["blocks"]]
        return root, lambda: self.data_blocks(kind, name, salt, rest, blocks)

    def slice(self, name):
        """The header of a slice, and a function that gives its entries, back to back."""
        root, entries = self.with_json(SLICE, name, "ebbtide-slice")
        return root["header"], entries

    def changes(self, root, uuid):
        """The changes of a collection: key, time and order, kind, content; sorted."""
        found = []
        for run in root.get("deltaRuns", []):
            for line in self.lines(run["pages"], root["header"]["clusterTime"]):
                if line["first"]["collection"] <= uuid <= line["last"]["collection"]:
                    _, plain = self.with_json(DELTA, bytes.fromhex(line["delta"]), "ebbtide-delta")
                    found += [change[1:] for change in records(plain()) if change[0].hex() == uuid]
        return sorted(found)

    def timelines(self):
        """Per timeline its slices, oldest first: name and header."""
        slices = {}
        for file in sorted((self.path / "v1" / "slices").glob("*/*")):
            if len(file.name) == 64:
                slices[file.name] = self.slice(bytes.fromhex(file.name))[0]
        for timeline in sorted({header["timelineId"] for header in slices.values()}):
            own = [name for name, header in slices.items() if header["timelineId"] == timeline]
            name = max(own, key=lambda name: (slices[name]["sequence"], position(slices[name]["last"])))
            chain = []
            while name in slices:
                header = slices[name]
                if chain:
                    check_link(name, header, *chain[-1])
                chain.append((name, header))
                name = header.get("previous")
            yield timeline, chain[::-1]

    def archive(self, archive_id, length):
        """The parts of an archive."""
        number = 0
        while length > 0:
            part, _, _ = self.read(ARCHIVE, archive_id + struct.pack(">Q", number))
            yield part
            number, length = number + 1, length - len(part)


def position(entry):
    return entry["time"]["seconds"], entry["time"]["increment"], entry["term"]


def check_link(name, header, next_name, next_header):
    links = [(header["timelineId"], next_header["timelineId"]), (header["sequence"] + 1, next_header["sequence"]),
             (header["last"], next_header["after"])]
    if any(one != other for one, other in links):
        sys.exit(f"slice {next_name} does not follow {name}, which it names")


def dump_timeline(vault, timeline, out):
    chain = dict(vault.timelines()).get(timeline) or sys.exit(f"there is no timeline {timeline}")
    if chain[0][1]["sequence"] > 0:
        print(f"slices before number {chain[0][1]['sequence']} are not there", file=sys.stderr)
    for name, header in chain:
        plain = vault.slice(bytes.fromhex(name))[1]()
        if (sum(1 for _ in documents(plain)), len(plain)) != (header["entries"], header["bytes"]):
            sys.exit(f"slice {name} is damaged: another count of entries or bytes")
        out.write(plain)


def records(plain):
    at = 0
    while at < len(plain):
        collection, time, order, kind, key_bytes, content_bytes = RECORD.unpack_from(plain, at)
        at += RECORD.size
        key, at = plain[at:at + key_bytes], at + key_bytes
        content, at = plain[at:at + content_bytes], at + content_bytes
        yield collection, key, (time, order), kind, content


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
    at = root["header"]["clusterTime"]
    for collection in vault.lines(root["collectionPages"], at):
        if f"{collection['db']}.{collection['name']}" != namespace:
            continue
        content = ContentSum()
        is_sorted = collection["order"] == "sorted" and "uuid" in collection
        changes = vault.changes(root, collection["uuid"]) if is_sorted else []
        segments = list(vault.lines(collection["segmentPages"], collection["asOf"]))
        starts = [bisect.bisect_left(changes, (base64.b64decode(entry.get("firstKey", "")),)) for entry in segments[1:]]
        for entry, start, end in zip(segments, [0, *starts], [*starts, None]):
            plain = vault.segment(bytes.fromhex(entry["segment"]))
            content.add(plain)
            since = entry["asOf"]["seconds"] << 32 | entry["asOf"]["increment"]
            due = [change for change in changes[start:end] if change[1][0] > since]
            out.write(changed(plain, due) if due else plain)
        if (content.count, content.hex()) != (collection["documents"], collection["content"]):
            sys.exit(f"{namespace} is damaged: another count or content hash")
        return
    sys.exit(f"there is no collection {namespace} in this snapshot")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vault", type=Path)
    parser.add_argument("--key-file", type=Path, required=True)
    parser.add_argument("command", choices=["list", "show", "dump", "archive", "slices"])
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
            for collection in vault.lines(find(vault, snapshot)["collectionPages"], None):
                print(f"{collection['db']}.{collection['name']}", collection["kind"], collection["documents"],
                      collection["bytes"], collection["content"])
        case "dump", [snapshot, namespace]:
            dump(vault, find(vault, snapshot), namespace, sys.stdout.buffer)
        case "archive", [archive_id, length]:
            for part in vault.archive(bytes.fromhex(archive_id), int(length)):
                sys.stdout.buffer.write(part)
        case "slices", []:
            for timeline, chain in vault.timelines():
                for name, header in chain:
                    first, last = (",".join(map(str, position(header[key])[:2])) for key in ("first", "last"))
                    print(timeline, header["sequence"], name, header["deploymentName"], first, last,
                          header["entries"], header["bytes"])
        case "slices", [timeline]:
            dump_timeline(vault, timeline, sys.stdout.buffer)
        case _:
            parser.error(f"{options.command} takes other arguments; see --help")


if __name__ == "__main__":
    main()
