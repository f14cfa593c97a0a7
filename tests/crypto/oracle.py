#!/usr/bin/env python3
"""Recomputes SM2's schemes from the standards alone and compares with the library.

usage: oracle.py HELPER [SEED]

Nothing here knows the library's code: integers, the affine group law, SM3 from GB/T 32905, key
exchange from GB/T 32918.3, implicit certificates from GM/T 0130, hash to curve from RFC 9380 as the
text of section 6.6.2 puts it (not the straight-line form that the library uses). Only the
standard library is needed. Prints what it checked; exits 1 at the first difference.
"""

import random
import subprocess
import sys

P = 0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF00000000FFFFFFFFFFFFFFFF
N = 0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFF7203DF6B21C6052B53BBF40939D54123
A = P - 3
B = 0x28E9FA9E9D9F5E344D5A9E4BCF6509A7F39789F515AB8F92DDBCBD414D940E93
G = (
    0x32C4AE2C1F1981195F9904466A39C9948FE30BBFF2660BE1715A4589334C74C7,
    0xBC3736A2F4F6779C59BDCEE36B692153D0A9877CC62A474002DF32E52139F0A0,
)
ID16 = b"1234567812345678"


# --- SM3, GB/T 32905 clause 5 ---------------------------------------------------------------------

IV = (0x7380166F, 0x4914B2B9, 0x172442D7, 0xDA8A0600,
      0xA96F30BC, 0x163138AA, 0xE38DEE4D, 0xB0FB0E4E)
MASK = 0xFFFFFFFF


def rotate(x, n):
    n %= 32
    return ((x << n) | (x >> (32 - n))) & MASK if n else x


def compress(v, block):
    w = [int.from_bytes(block[4 * i : 4 * i + 4], "big") for i in range(16)]
    for j in range(16, 68):
        x = w[j - 16] ^ w[j - 9] ^ rotate(w[j - 3], 15)
        w.append(x ^ rotate(x, 15) ^ rotate(x, 23) ^ rotate(w[j - 13], 7) ^ w[j - 6])
    a, b, c, d, e, f, g, h = v
    for j in range(64):
        t = 0x79CC4519 if j < 16 else 0x7A879D8A
        ss1 = rotate((rotate(a, 12) + e + rotate(t, j)) & MASK, 7)
        ss2 = ss1 ^ rotate(a, 12)
        ff = a ^ b ^ c if j < 16 else (a & b) | (a & c) | (b & c)
        gg = e ^ f ^ g if j < 16 else (e & f) | (~e & MASK & g)
        tt1 = (ff + d + ss2 + (w[j] ^ w[j + 4])) & MASK
        tt2 = (gg + h + ss1 + w[j]) & MASK
        d, c, b, a = c, rotate(b, 9), a, tt1
        h, g, f, e = g, rotate(f, 19), e, tt2 ^ rotate(tt2, 9) ^ rotate(tt2, 17)
    return tuple(x ^ y for x, y in zip(v, (a, b, c, d, e, f, g, h)))


def sm3(m):
    padded = m + b"\x80" + bytes(-(len(m) + 9) % 64) + (8 * len(m)).to_bytes(8, "big")
    v = IV
    for i in range(0, len(padded), 64):
        v = compress(v, padded[i : i + 64])
    return b"".join(x.to_bytes(4, "big") for x in v)


def hmac(key, m):
    key = (sm3(key) if len(key) > 64 else key).ljust(64, b"\0")
    return sm3(bytes(k ^ 0x5C for k in key) + sm3(bytes(k ^ 0x36 for k in key) + m))


def kdf(z, size):
    out = b""
    counter = 1
    while len(out) < size:
        out += sm3(z + counter.to_bytes(4, "big"))
        counter += 1
    return out[:size]


# --- the curve ------------------------------------------------------------------------------------


def add(p, q):
    if p is None:
        return q
    if q is None:
        return p
    if p[0] == q[0]:
        if (p[1] + q[1]) % P == 0:
            return None
        slope = (3 * p[0] * p[0] + A) * pow(2 * p[1], -1, P) % P
    else:
        slope = (q[1] - p[1]) * pow(q[0] - p[0], -1, P) % P
    x = (slope * slope - p[0] - q[0]) % P
    return x, (slope * (p[0] - x) - p[1]) % P


def mul(k, p):
    out = None
    for bit in bin(k)[2:]:
        out = add(out, out)
        if bit == "1":
            out = add(out, p)
    return out


def b32(x):
    return x.to_bytes(32, "big")


def xy(p):
    return b32(p[0]) + b32(p[1])


def z_of(identity, p):
    entl = (8 * len(identity)).to_bytes(2, "big")
    return sm3(entl + identity + b32(A) + b32(B) + xy(G) + xy(p))


# --- schemes --------------------------------------------------------------------------------------


def exchange(da, ra, ida, db, rb, idb, size):
    """GB/T 32918.3 clause 6.2, computed as side A does, V checked as side B does."""
    pa, pb, r1, r2 = mul(da, G), mul(db, G), mul(ra, G), mul(rb, G)
    za, zb = z_of(ida, pa), z_of(idb, pb)
    w = 127
    x1 = 2**w + (r1[0] & (2**w - 1))
    x2 = 2**w + (r2[0] & (2**w - 1))
    v = mul((da + x1 * ra) % N, add(pb, mul(x2, r2)))
    if v != mul((db + x2 * rb) % N, add(pa, mul(x1, r1))):
        raise AssertionError("the oracle's own two sides differ")
    inner = sm3(b32(v[0]) + za + zb + xy(r1) + xy(r2))
    s_b = sm3(b"\x02" + b32(v[1]) + inner)
    s_a = sm3(b"\x03" + b32(v[1]) + inner)
    return [xy(v), inner, s_a, s_b, kdf(xy(v) + za + zb, size)]


def implicit(x, d_prime, w, identity, message, k):
    """GM/T 0130: issue, accept, sign."""
    pub = mul(x, G)
    h_a = z_of(identity, pub)
    w_point = add(mul(w, G), mul(d_prime, G))
    lam = int.from_bytes(sm3(xy(w_point) + h_a), "big") % N
    t = (w + lam * x) % N
    d = (t + d_prime) % N
    p = mul(d, G)
    if p != add(w_point, mul(lam, pub)):
        raise AssertionError("the oracle's own two public keys differ")
    e = sm3(h_a + xy(w_point) + message)
    r = (int.from_bytes(e, "big") + mul(k, G)[0]) % N
    s = pow(1 + d, -1, N) * (k - r * d) % N
    return [xy(w_point), b32(t), b32(lam), b32(d), xy(p), e, b32(r) + b32(s)]


# --- hash to curve, RFC 9380 ----------------------------------------------------------------------


def is_square(x):
    return pow(x, (P - 1) // 2, P) in (0, 1)


def g_of(x):
    return (x * x * x + A * x + B) % P


def poly_mod(a, m):
    """Remainder of a by the monic polynomial m; coefficients from the highest down."""
    a = a[:]
    while len(a) >= len(m):
        lead = a[0]
        a = [(c - lead * (m[i] if i < len(m) else 0)) % P for i, c in enumerate(a)][1:]
    return a


def poly_mul_mod(a, b, m):
    out = [0] * (len(a) + len(b) - 1)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            out[i + j] = (out[i + j] + x * y) % P
    return poly_mod(out, m)


def cubic_is_irreducible(c):
    """A cubic is irreducible exactly if it has no root: gcd(x^p - x, c) is constant."""
    power, base, e = [1], [1, 0], P
    while e:
        if e & 1:
            power = poly_mul_mod(power, base, c)
        base = poly_mul_mod(base, base, c)
        e >>= 1
    a = c
    b = ([0] * (3 - len(power)) + power)[-3:]
    b[1] = (b[1] - 1) % P
    while True:
        while b and b[0] == 0:
            b = b[1:]
        if not b:
            return len(a) == 1
        inverse = pow(b[0], -1, P)
        b = [x * inverse % P for x in b]
        a, b = b, poly_mod(a, b)


def find_z():
    """Appendix H.2, find_z_sswu."""
    counter = 1
    while True:
        for z in (counter % P, -counter % P):
            if is_square(z) or z == P - 1:
                continue
            if not cubic_is_irreducible([1, 0, A, (B - z) % P]):
                continue
            if is_square(g_of(B * pow(z * A, -1, P) % P)):
                return z
        counter += 1


def expand_message_xmd(message, dst, size):
    """Section 5.3.1 with SM3: b_in_bytes = 32, s_in_bytes = 64."""
    dst_prime = dst + bytes([len(dst)])
    b0 = sm3(bytes(64) + message + size.to_bytes(2, "big") + b"\0" + dst_prime)
    blocks = [sm3(b0 + b"\1" + dst_prime)]
    for i in range(2, -(-size // 32) + 1):
        mixed = bytes(x ^ y for x, y in zip(b0, blocks[-1]))
        blocks.append(sm3(mixed + bytes([i]) + dst_prime))
    return b"".join(blocks)[:size]


def map_to_curve(u, z):
    """Section 6.6.2, steps 1 to 9."""
    t = (z * z * pow(u, 4, P) + z * u * u) % P
    tv1 = pow(t, P - 2, P)
    x1 = (-B * pow(A, -1, P)) * (1 + tv1) % P
    if tv1 == 0:
        x1 = B * pow(z * A, -1, P) % P
    x = x1
    if not is_square(g_of(x1)):
        x = z * u * u * x1 % P
    y = pow(g_of(x), (P + 1) // 4, P)
    if y * y % P != g_of(x):
        raise AssertionError("neither candidate is on the curve")
    return x, y if y % 2 == u % 2 else P - y


def hash_to_curve(message, dst, z):
    uniform = expand_message_xmd(message, dst, 96)
    u = [int.from_bytes(uniform[48 * i : 48 * i + 48], "big") % P for i in range(2)]
    return add(map_to_curve(u[0], z), map_to_curve(u[1], z))


# --- the comparison -------------------------------------------------------------------------------


def word(data):
    return data.hex() or "-"


def self_check():
    """The oracle itself against a few published numbers."""
    if sm3(b"abc").hex() != "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0":
        raise AssertionError("SM3")
    if g_of(G[0]) != G[1] ** 2 % P or mul(N, G) is not None:
        raise AssertionError("curve")
    p = mul(0x3945208F7B2144B13F36E38AC6D39F95889393692860B51A42FB81EF4DF7C5B8, G)
    if z_of(ID16, p).hex() != "b2e14c5c79c6df5b85f4fe7ed8db7a262b9da7e07ccb0ea9f4747b8ccda8a4f3":
        raise AssertionError("Z")


def cases(rng):
    """Pairs of a line for the helper and the list of words that it has to answer."""
    z = find_z()
    if z != P - 9:
        raise AssertionError("the RFC's procedure finds Z = %d" % z)

    def scalar():
        return rng.randrange(1, N - 1)

    def text(most):
        return rng.randbytes(rng.randrange(most + 1))

    yield "bases", [xy(G), xy((G[0], P - G[1]))]
    for size in (0, 1, 31, 32, 33, 55, 56, 63, 64, 65, 119, 120, 200):
        key, message = rng.randbytes(size), text(150)
        yield "hmac %s %s" % (word(key), word(message)), [hmac(key, message)]
        yield "kdf %s %d" % (word(message), size + 1), [kdf(message, size + 1)]
    for _ in range(6):
        da, ra, db, rb = scalar(), scalar(), scalar(), scalar()
        ida, idb, size = text(60), text(60), rng.randrange(1, 80)
        line = "exchange %s %s %s %s %s %s %d" % (
            b32(da).hex(), b32(ra).hex(), word(ida), b32(db).hex(), b32(rb).hex(), word(idb), size)
        yield line, exchange(da, ra, ida, db, rb, idb, size) * 2
    for _ in range(6):
        x, d_prime, w, k = scalar(), scalar(), scalar(), scalar()
        identity, message = text(40), text(200)
        line = "implicit %s %s %s %s %s %s" % (
            b32(x).hex(), b32(d_prime).hex(), b32(w).hex(), word(identity), word(message),
            b32(k).hex())
        yield line, implicit(x, d_prime, w, identity, message, k)
    for i in range(60):
        dst = rng.randbytes(255) if i == 0 else b"T" + text(40)
        message = b"" if i == 1 else text(130)
        point = hash_to_curve(message, dst, z)
        yield "h2c %s %s" % (word(dst), word(message)), [xy(point)]


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    seed = int(sys.argv[2]) if len(sys.argv) == 3 else random.randrange(2**32)
    print("seed", seed)
    self_check()
    pairs = list(cases(random.Random(seed)))
    run = subprocess.run([sys.argv[1]], input="".join(line + "\n" for line, _ in pairs), text=True,
                         stdout=subprocess.PIPE, timeout=120, check=True)
    answers = run.stdout.splitlines()
    if len(answers) != len(pairs):
        sys.exit("%d answers to %d cases" % (len(answers), len(pairs)))
    for (line, expected), answer in zip(pairs, answers):
        if answer.split() != [e.hex() for e in expected]:
            sys.exit("case %s\nlibrary %s\noracle  %s"
                     % (line, answer, " ".join(e.hex() for e in expected)))
    print("%d cases agree" % len(pairs))


if __name__ == "__main__":
    main()
