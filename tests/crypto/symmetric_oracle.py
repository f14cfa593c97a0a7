#!/usr/bin/env python3
"""Compares SM4-GCM, SM4-CTR, HMAC-SM3, and SM3 in chunks, with two oracles each, on random input.

usage: symmetric_oracle.py HELPER [SEED]

The first oracle is the text of the standards in plain Python: SM4 (GB/T 32907, its S-box computed
from its algebra), SM3 (GB/T 32905), GCM (NIST SP 800-38D), HMAC (RFC 2104). The second is a library
that shares no code with ours: Botan for SM4-GCM, OpenSSL for the others. Exits 1 at the first difference and
77 when there is no second oracle.
"""

import ctypes
import ctypes.util
import hashlib
import hmac
import random
import subprocess
import sys

MASK = 0xFFFFFFFF


# --- SM4, GB/T 32907 ------------------------------------------------------------------------------

def field_multiply(a, b):
    """In GF(2^8) with x^8 + x^7 + x^6 + x^5 + x^4 + x^2 + 1."""
    r = 0
    while b:
        if b & 1:
            r ^= a
        a = a << 1 ^ (0x1F5 if a & 0x80 else 0)
        b >>= 1
    return r


def affine(x):
    """The circulant matrix A7, then D3."""
    rows = [((0xA7 << i) | (0xA7 >> (8 - i))) & 0xFF for i in range(8)]
    return sum((bin(rows[i] & x).count("1") & 1) << i for i in range(8)) ^ 0xD3


def make_box():
    inverse = [0] * 256
    for a in range(1, 256):
        inverse[a] = next(b for b in range(1, 256) if field_multiply(a, b) == 1)
    return bytes(affine(inverse[affine(x)]) for x in range(256))


BOX = make_box()
FK = (0xA3B1BAC6, 0x56AA3350, 0x677D9197, 0xB27022DC)
CK = [int.from_bytes(bytes((4 * i + j) * 7 % 256 for j in range(4)), "big") for i in range(32)]


def rotate(x, n):
    return ((x << n) | (x >> (32 - n))) & MASK


def box4(x):
    return int.from_bytes(bytes(BOX[b] for b in x.to_bytes(4, "big")), "big")


def round_keys(key):
    k = [int.from_bytes(key[4 * i : 4 * i + 4], "big") ^ FK[i] for i in range(4)]
    for i in range(32):
        b = box4(k[i + 1] ^ k[i + 2] ^ k[i + 3] ^ CK[i])
        k.append(k[i] ^ b ^ rotate(b, 13) ^ rotate(b, 23))
    return k[4:]


def encrypt_block(rk, block):
    x = [int.from_bytes(block[4 * i : 4 * i + 4], "big") for i in range(4)]
    for i in range(32):
        b = box4(x[i + 1] ^ x[i + 2] ^ x[i + 3] ^ rk[i])
        x.append(x[i] ^ b ^ rotate(b, 2) ^ rotate(b, 10) ^ rotate(b, 18) ^ rotate(b, 24))
    return b"".join(w.to_bytes(4, "big") for w in reversed(x[32:]))


def xor(a, b):
    return bytes(x ^ y for x, y in zip(a, b))


def ctr(key, counter, text):
    rk, out, c = round_keys(key), b"", int.from_bytes(counter, "big")
    for at in range(0, len(text), 16):
        out += xor(text[at : at + 16], encrypt_block(rk, (c % 2**128).to_bytes(16, "big")))
        c += 1
    return out


# --- GCM, NIST SP 800-38D -------------------------------------------------------------------------

def gf128(x, y):
    z = 0
    for i in range(127, -1, -1):
        if x >> i & 1:
            z ^= y
        y = y >> 1 ^ (0xE1 << 120 if y & 1 else 0)
    return z


def ghash(h, data):
    y = 0
    for at in range(0, len(data), 16):
        y = gf128(y ^ int.from_bytes(data[at : at + 16], "big"), h)
    return y.to_bytes(16, "big")


def pad(data):
    return data + bytes(-len(data) % 16)


def gcm(key, nonce, aad, text):
    rk = round_keys(key)
    h = int.from_bytes(encrypt_block(rk, bytes(16)), "big")
    # With a nonce of 96 bits and less than 2^32 blocks, inc32 never carries further.
    sealed = ctr(key, nonce + (2).to_bytes(4, "big"), text)
    lengths = (8 * len(aad)).to_bytes(8, "big") + (8 * len(sealed)).to_bytes(8, "big")
    tag = xor(ghash(h, pad(aad) + pad(sealed) + lengths),
              encrypt_block(rk, nonce + (1).to_bytes(4, "big")))
    return sealed + tag


# --- SM3, GB/T 32905 ------------------------------------------------------------------------------

IV = (0x7380166F, 0x4914B2B9, 0x172442D7, 0xDA8A0600, 0xA96F30BC, 0x163138AA, 0xE38DEE4D, 0xB0FB0E4E)


def compress(v, block):
    p0 = lambda x: x ^ rotate(x, 9) ^ rotate(x, 17)
    p1 = lambda x: x ^ rotate(x, 15) ^ rotate(x, 23)
    w = [int.from_bytes(block[4 * i : 4 * i + 4], "big") for i in range(16)]
    for j in range(16, 68):
        w.append(p1(w[j - 16] ^ w[j - 9] ^ rotate(w[j - 3], 15)) ^ rotate(w[j - 13], 7) ^ w[j - 6])
    a, b, c, d, e, f, g, h = v
    for j in range(64):
        t = 0x79CC4519 if j < 16 else 0x7A879D8A
        ss1 = rotate((rotate(a, 12) + e + rotate(t, j % 32)) & MASK, 7)
        ss2 = ss1 ^ rotate(a, 12)
        ff = a ^ b ^ c if j < 16 else a & b | a & c | b & c
        gg = e ^ f ^ g if j < 16 else e & f | ~e & MASK & g
        tt1 = (ff + d + ss2 + (w[j] ^ w[j + 4])) & MASK
        tt2 = (gg + h + ss1 + w[j]) & MASK
        a, b, c, d, e, f, g, h = tt1, a, rotate(b, 9), c, p0(tt2), e, rotate(f, 19), g
    return [x ^ y for x, y in zip(v, (a, b, c, d, e, f, g, h))]


def sm3(data):
    padded = data + b"\x80" + bytes((55 - len(data)) % 64) + (8 * len(data)).to_bytes(8, "big")
    v = IV
    for at in range(0, len(padded), 64):
        v = compress(v, padded[at : at + 64])
    return b"".join(x.to_bytes(4, "big") for x in v)


def openssl_sm3(data):
    return hashlib.new("sm3", data).digest()


def hmac_by_definition(key, message):
    key = (sm3(key) if len(key) > 64 else key).ljust(64, b"\0")
    return sm3(xor(key, b"\x5c" * 64) + sm3(xor(key, b"\x36" * 64) + message))


def self_check():
    key = bytes.fromhex("0123456789abcdeffedcba9876543210")
    if encrypt_block(round_keys(key), key).hex() != "681edf34d206965e86b3e94f536e4246":
        raise AssertionError("GB/T 32907 annex A.1")
    if sm3(b"abc").hex() != "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0":
        raise AssertionError("GB/T 32905 annex A.1")
    text = b"".join(bytes([b]) * 8 for b in bytes.fromhex("aabbccddeeffeeaa"))
    sealed = gcm(key, bytes.fromhex("00001234567800000000abcd"),
                 bytes.fromhex("feedfacedeadbeeffeedfacedeadbeefabaddad2"), text)
    if not sealed.hex().endswith("83de3541e4c2b58177e065a9bf7b62ec"):
        raise AssertionError("RFC 8998 annex A.1")


# --- the libraries --------------------------------------------------------------------------------

class Botan:
    """SM4-GCM through the C interface of Botan, which the package `botan` brings along."""

    def __init__(self):
        name = ctypes.util.find_library("botan-2") or ctypes.util.find_library("botan-3")
        if name is None:
            print("there is no libbotan")
            sys.exit(77)
        self.lib = ctypes.CDLL(name)

    def must(self, code):
        if code != 0:
            raise AssertionError("botan says %d" % code)

    def gcm(self, key, nonce, aad, text):
        cipher = ctypes.c_void_p()
        self.must(self.lib.botan_cipher_init(ctypes.byref(cipher), b"SM4/GCM", 0))
        sizes = ctypes.c_size_t
        self.must(self.lib.botan_cipher_set_key(cipher, key, sizes(len(key))))
        self.must(self.lib.botan_cipher_set_associated_data(cipher, aad, sizes(len(aad))))
        self.must(self.lib.botan_cipher_start(cipher, nonce, sizes(len(nonce))))
        out = ctypes.create_string_buffer(len(text) + 64)
        written, consumed = sizes(), sizes()
        self.must(self.lib.botan_cipher_update(
            cipher, ctypes.c_uint32(1), out, sizes(len(out)), ctypes.byref(written), text,
            sizes(len(text)), ctypes.byref(consumed)))
        self.lib.botan_cipher_destroy(cipher)
        return out.raw[: written.value]


def openssl_ctr(key, counter, text):
    return subprocess.run(["openssl", "enc", "-sm4-ctr", "-K", key.hex(), "-iv", counter.hex()],
                          input=text, stdout=subprocess.PIPE, check=True).stdout


def openssl_hmac(key, message):
    return hmac.new(key, message, lambda *data: hashlib.new("sm3", *data)).digest()


def word(data):
    return data.hex() or "-"


def cases(rng, botan):
    """A line for the helper, and what each oracle answers."""
    sizes = [0, 1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257, 1000]
    for size in sizes + [rng.randrange(400) for _ in range(30)]:
        key, nonce, text = rng.randbytes(16), rng.randbytes(12), rng.randbytes(size)
        aad = rng.randbytes(rng.randrange(70))
        yield ("gcm %s %s %s %s" % (word(key), word(nonce), word(aad), word(text)),
               [gcm(key, nonce, aad, text), botan.gcm(key, nonce, aad, text)])
    for size in sizes:
        # A counter that carries from its last word, and one that wraps, among them.
        counter = {15: b"\xff" * 16, 64: bytes(8) + b"\xff" * 8}.get(size, rng.randbytes(16))
        key, text = rng.randbytes(16), rng.randbytes(size)
        yield ("ctr %s %s %s" % (word(key), word(counter), word(text)),
               [ctr(key, counter, text), openssl_ctr(key, counter, text)])
    for size in sizes:
        key, message = rng.randbytes(size), rng.randbytes(rng.randrange(300))
        yield ("hmac %s %s" % (word(key), word(message)),
               [hmac_by_definition(key, message), openssl_hmac(key, message)])
    # Any chunking: all of one size, around the block's among them, and sizes at random, also none.
    chunks = [b""] + [bytes([n]) for n in (1, 2, 3, 31, 55, 56, 63, 64, 65, 127, 128, 200)]
    chunks += [bytes(rng.randrange(rng.choice((3, 70, 256))) for _ in range(20)) + b"\x01" for _ in range(10)]
    for size in sizes + [55, 56, 57, 119, 120]:
        text = rng.randbytes(size)
        digests = [sm3(text) * 2, openssl_sm3(text) * 2]
        for each in chunks:
            yield "sm3 %s %s" % (word(text), word(each)), digests


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    if "sm3" not in hashlib.algorithms_available:
        print("Python's hashlib has no SM3")
        sys.exit(77)
    seed = int(sys.argv[2]) if len(sys.argv) == 3 else random.randrange(2**32)
    print("seed", seed)
    self_check()
    pairs = list(cases(random.Random(seed), Botan()))
    run = subprocess.run([sys.argv[1]], input="".join(line + "\n" for line, _ in pairs), text=True,
                         stdout=subprocess.PIPE, timeout=120, check=True)
    answers = run.stdout.splitlines()
    if len(answers) != len(pairs):
        sys.exit("%d answers to %d cases" % (len(answers), len(pairs)))
    for (line, expected), answer in zip(pairs, answers):
        for name, e in zip(("definition", "other library"), expected):
            if answer.replace(" ", "") != e.hex():
                sys.exit("case %s\nlibrary %s\n%s %s" % (line, answer, name, e.hex()))
    print("%d cases agree with both" % len(pairs))


if __name__ == "__main__":
    main()
