"""What read_vault.py makes of documents and changes: sort keys and diffs. Written from docs/format.md alone."""

import struct
import sys
from decimal import Decimal

INSERT, REPLACE, PATCH, DELETE, REAPPLY = 0, 1, 2, 3, 4
FIXED = {0x01: 8, 0x06: 0, 0x07: 12, 0x08: 1, 0x09: 8, 0x0A: 0, 0x10: 4, 0x11: 8, 0x12: 8, 0x13: 16, 0x7F: 0, 0xFF: 0}
# Of types that tell their length: how much more than that they take.
COUNTED = {0x02: 4, 0x03: 0, 0x04: 0, 0x05: 5, 0x0C: 16, 0x0D: 4, 0x0E: 4, 0x0F: 0}
NULL = (0x0A, b"")


def documents(plain):
    at = 0
    while at < len(plain):
        (length,) = struct.unpack_from("<i", plain, at)
        yield plain[at:at + length]
        at += length


def elements(document):
    """Type, name and value of every element of a BSON document; values as they are stored."""
    at = 4
    while document[at]:
        kind, end = document[at], document.index(0, at + 1)
        name, at = document[at + 1:end], end + 1
        if kind == 0x0B:
            end = document.index(0, document.index(0, at) + 1) + 1
        elif kind in FIXED:
            end = at + FIXED[kind]
        else:
            end = at + COUNTED[kind] + struct.unpack_from("<i", document, at)[0]
        yield kind, name, document[at:end]
        at = end


def bson(items):
    body = b"".join(bytes([kind]) + name + b"\0" + value for kind, name, value in items)
    return struct.pack("<i", len(body) + 5) + body + b"\0"


def patched(before, diff):
    """What a diff makes of a document."""
    changes = {}
    for kind, section, value in elements(diff):
        if section[:1] == b"s":
            changes[section[1:]] = (b"s", kind, value)
        elif section in (b"d", b"u", b"i"):
            changes.update((name, (section, kind, new)) for kind, name, new in elements(value))
        else:
            sys.exit(f"a diff has a section that is not known: {section}")
    after, met = [], set()
    for kind, name, value in elements(before):
        what, new_kind, new = changes.get(name, (None, kind, value))
        met.add(name)
        if what == b"s":
            new_kind, new = patched_inside(kind, value, new)
        if what in (None, b"u", b"s"):
            after.append((new_kind, name, new))
    for name, (what, kind, new) in changes.items():
        if what == b"i" or what == b"u" and name not in met:
            after.append((kind, name, new))
    return bson(after)


def patched_inside(kind, value, diff):
    is_array = next(elements(diff))[1] == b"a"
    if kind != (0x04 if is_array else 0x03):
        return NULL
    return kind, (patched_array if is_array else patched)(value, diff)


def patched_array(before, diff):
    values = [(kind, value) for kind, _, value in elements(before)]
    for kind, name, new in list(elements(diff))[1:]:
        if name == b"l":
            length = int.from_bytes(new, "little")
            values = (values + [NULL] * length)[:length]
            continue
        at = int(name[1:])
        values += [NULL] * (at + 1 - len(values))
        values[at] = (kind, new) if name[:1] == b"u" else patched_inside(*values[at], new)
    return bson((kind, str(at).encode(), value) for at, (kind, value) in enumerate(values))


RANK = {0xFF: 0x05, 0x06: 0x08, 0x0A: 0x0A, 0x01: 0x14, 0x10: 0x14, 0x12: 0x14, 0x13: 0x14, 0x02: 0x1E, 0x0E: 0x1E,
        0x03: 0x28, 0x04: 0x32, 0x05: 0x3C, 0x07: 0x46, 0x08: 0x50, 0x09: 0x5A, 0x11: 0x5E, 0x0B: 0x64, 0x0C: 0x6E,
        0x0D: 0x78, 0x0F: 0x82, 0x7F: 0xFA}


def sort_key(document):
    kind, value = next((kind, value) for kind, name, value in elements(document) if name == b"_id")
    return bytes([RANK[kind]]) + key_value(kind, value)


def key_value(kind, value):
    match kind:
        case 0x01:
            return key_number(Decimal(struct.unpack("<d", value)[0]))
        case 0x10 | 0x12:
            return key_number(Decimal(int.from_bytes(value, "little", signed=True)))
        case 0x13:
            return key_number(decimal128(int.from_bytes(value, "little")))
        case 0x02 | 0x0D | 0x0E:
            return key_text(value)
        case 0x03 | 0x04:
            return key_object(value, kind == 0x03)
        case 0x05:
            return value[3::-1] + value[4:]
        case 0x09:
            return (int.from_bytes(value, "little") ^ 1 << 63).to_bytes(8, "big")
        case 0x11:
            return value[::-1]
        case 0x0C:
            return len(value).to_bytes(4, "big") + value
        case 0x0F:
            scope = 8 + int.from_bytes(value[4:8], "little")
            return key_text(value[4:scope]) + key_object(value[scope:], True)
    return value


def key_text(value):
    return value[4:-1].replace(b"\0", b"\0\xff") + b"\0\0"


def key_object(value, with_names):
    parts = [bytes([RANK[kind]]) + (name + b"\0" if with_names else b"") + key_value(kind, inner)
             for kind, name, inner in elements(value)]
    return b"".join(parts) + b"\0"


def decimal128(bits):
    sign, combination = bits >> 127, bits >> 122 & 0x1F
    if combination >= 0x1E:
        return Decimal("NaN") if combination == 0x1F else Decimal("-Infinity" if sign else "Infinity")
    coefficient = bits & (1 << 113) - 1
    if combination >> 3 == 3 or coefficient >= 10**34:
        coefficient = 0
    return Decimal((sign, tuple(map(int, str(coefficient))), (bits >> 113 & 0x3FFF) - 6176))


def key_number(number):
    if number.is_nan():
        return b"\x01"
    if number.is_infinite():
        return b"\x02" if number < 0 else b"\x06"
    sign, digits, exponent = number.as_tuple()
    exponent, digits = exponent + len(digits), bytes(digits).rstrip(b"\0")
    if not digits:
        return b"\x04"
    pairs = zip(digits[::2], digits[1::2] + b"\0")
    body = (exponent + 0x4000).to_bytes(2, "big") + bytes(10 * high + low + 1 for high, low in pairs) + b"\0"
    return b"\x03" + bytes(255 - byte for byte in body) if sign else b"\x05" + body


def changed(plain, changes):
    """What changes, in their order, make of documents that lie back to back."""
    state = {sort_key(document): document for document in documents(plain)}
    for key, _, kind, content in changes:
        if kind in (INSERT, REPLACE):
            state[key] = content
        elif kind == DELETE:
            state.pop(key, None)
        elif kind == PATCH and key in state:
            state[key] = patched(state[key], content)
        elif kind == REAPPLY:
            length = int.from_bytes(content[:4], "little")
            state[key] = patched(state.get(key, content[:length]), content[length:])
        else:
            sys.exit(f"there is no document for a change of kind {kind}, or no such kind; its key is {key.hex()}")
    return b"".join(state[key] for key in sorted(state))
