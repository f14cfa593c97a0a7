#!/usr/bin/env python3
"""Computes both schemes and the session again, in plain Python integers, and compares.

    oracle.py PROGRAM    runs PROGRAM (trace.c) and compares what it prints with this file's values

Written from the documents: docs/security.md, GB/T 32918, GM/T 0130, RFC 9380, RFC 8998. The standard
library only (hashlib has SM3). It first checks itself on published vectors.
"""
import hashlib
import hmac as hmac_module
import subprocess
import sys

# --- the curve --------------------------------------------------------------------------------
P = 0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF00000000FFFFFFFFFFFFFFFF
A = P - 3
B = 0x28E9FA9E9D9F5E344D5A9E4BCF6509A7F39789F515AB8F92DDBCBD414D940E93
N = 0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFF7203DF6B21C6052B53BBF40939D54123
G = (0x32C4AE2C1F1981195F9904466A39C9948FE30BBFF2660BE1715A4589334C74C7,
     0xBC3736A2F4F6779C59BDCEE36B692153D0A9877CC62A474002DF32E52139F0A0)


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
    return (x, (slope * (p[0] - x) - p[1]) % P)


def mul(k, p):
    out = None
    while k > 0:
        if k & 1:
            out = add(out, p)
        p = add(p, p)
        k >>= 1
    return out


def compressed(p):
    return bytes([2 + (p[1] & 1)]) + be(p[0], 32)


def be(value, size):
    return value.to_bytes(size, "big")


def num(data):
    return int.from_bytes(data, "big")


def xy(p):
    return be(p[0], 32) + be(p[1], 32)


# --- hashes -----------------------------------------------------------------------------------
def sm3(*parts):
    return hashlib.new("sm3", b"".join(parts)).digest()


def labelled(label, *parts):
    return sm3(label.encode() + b"\0", *parts)


def hmac(key, *parts):
    return hmac_module.new(key, b"".join(parts), "sm3").digest()


def kdf(size, *parts):
    out = b""
    counter = 1
    while len(out) < size:
        out += sm3(*parts, be(counter, 4))
        counter += 1
    return out[:size]


def wide(data):
    return num(data) % N or 1


def z_of(ident, p):
    return sm3(be(len(ident) * 8, 2), ident, be(A, 32), be(B, 32), xy(G), xy(p))


# --- SM4-GCM ----------------------------------------------------------------------------------
def gf8(a, b):
    """The product in GF(2^8) modulo x^8 + x^7 + x^6 + x^5 + x^4 + x^2 + 1."""
    out = 0
    while b:
        if b & 1:
            out ^= a
        a <<= 1
        if a & 0x100:
            a ^= 0x1F5
        b >>= 1
    return out


def make_sbox():
    """SM4's table in its algebraic form: an affine map before and after the inversion."""
    def affine(v):
        out = 0
        for i in range(8):
            bits = v & (((0xA7 << i) | (0xA7 >> (8 - i))) & 0xFF)
            out |= (bin(bits).count("1") & 1) << i
        return out ^ 0xD3
    inverse = [0] * 256
    for a in range(1, 256):
        for b in range(1, 256):
            if gf8(a, b) == 1:
                inverse[a] = b
                break
    return [affine(inverse[affine(v)]) for v in range(256)]


SBOX = make_sbox()
FK = (0xA3B1BAC6, 0x56AA3350, 0x677D9197, 0xB27022DC)


def rotl(v, n):
    return ((v << n) | (v >> (32 - n))) & 0xFFFFFFFF


def tau(v):
    return num(bytes(SBOX[b] for b in be(v, 4)))


def sm4_keys(key):
    k = [num(key[4 * i:4 * i + 4]) ^ FK[i] for i in range(4)]
    out = []
    for i in range(32):
        ck = num(bytes((4 * i + j) * 7 % 256 for j in range(4)))
        t = tau(k[1] ^ k[2] ^ k[3] ^ ck)
        new = k[0] ^ t ^ rotl(t, 13) ^ rotl(t, 23)
        out.append(new)
        k = k[1:] + [new]
    return out


def sm4(keys, block):
    x = [num(block[4 * i:4 * i + 4]) for i in range(4)]
    for rk in keys:
        t = tau(x[1] ^ x[2] ^ x[3] ^ rk)
        x = x[1:] + [x[0] ^ t ^ rotl(t, 2) ^ rotl(t, 10) ^ rotl(t, 18) ^ rotl(t, 24)]
    return b"".join(be(v, 4) for v in reversed(x))


def ghash_mul(x, y):
    out = 0
    for i in range(127, -1, -1):
        if x >> i & 1:
            out ^= y
        y = (y >> 1) ^ (0xE1 << 120 if y & 1 else 0)
    return out


def sm4gcm_seal(key, nonce, aad, plain):
    keys = sm4_keys(key)
    h = num(sm4(keys, bytes(16)))
    cipher = b""
    for i in range(0, len(plain), 16):
        stream = sm4(keys, nonce + be(2 + i // 16, 4))
        cipher += bytes(a ^ b for a, b in zip(plain[i:i + 16], stream))
    state = 0
    for part in (aad, cipher):
        for i in range(0, len(part), 16):
            state = ghash_mul(state ^ num(part[i:i + 16].ljust(16, b"\0")), h)
    state = ghash_mul(state ^ num(be(8 * len(aad), 8) + be(8 * len(cipher), 8)), h)
    tag = state ^ num(sm4(keys, nonce + be(1, 4)))
    return cipher + be(tag, 16)


# --- hash to curve, RFC 9380 ------------------------------------------------------------------
def expand_message(message, dst, size):
    dst_prime = dst + bytes([len(dst)])
    b0 = sm3(bytes(64), message, be(size, 2), b"\0", dst_prime)
    block = sm3(b0, b"\1", dst_prime)
    out = block
    i = 2
    while len(out) < size:
        block = sm3(bytes(a ^ b for a, b in zip(b0, block)), bytes([i]), dst_prime)
        out += block
        i += 1
    return out[:size]


def sswu(u):
    z = P - 9
    tv = (z * z * pow(u, 4, P) + z * u * u) % P
    x1 = B * pow(z * A, -1, P) % P if tv == 0 else -B * pow(A, -1, P) * (1 + pow(tv, -1, P)) % P
    for x in (x1, z * u * u * x1 % P):
        square = (x * x * x + A * x + B) % P
        y = pow(square, (P + 1) // 4, P)
        if y * y % P == square:
            return (x, y if (y & 1) == (u & 1) else P - y)
    raise AssertionError("no square")


def hash_to_curve(message, dst):
    uniform = expand_message(message, dst, 96)
    return add(sswu(num(uniform[:48]) % P), sswu(num(uniform[48:]) % P))


# --- SM2 key exchange and implicit certificates -----------------------------------------------
def exchange(d, r, own_r, peer_p, peer_r, z_a, z_b, r_a, r_b, size):
    def x_bar(p):
        return (1 << 127) + (p[0] & ((1 << 127) - 1))
    t = (d + x_bar(own_r) * r) % N
    v = mul(t, add(peer_p, mul(x_bar(peer_r), peer_r)))
    key = kdf(size, xy(v), z_a, z_b)
    inner = sm3(be(v[0], 32), z_a, z_b, xy(r_a), xy(r_b))
    return key, sm3(b"\2", be(v[1], 32), inner), sm3(b"\3", be(v[1], 32), inner)


def implicit(x, w, u_a, h_a):
    big_w = add(mul(w, G), u_a)
    lam = num(sm3(xy(big_w), h_a)) % N
    return big_w, (w + lam * x) % N, lam


def check_self():
    """Published numbers: GM/T 0130 Annex A, GB/T 32918.5, RFC 8998."""
    x = 0x6BDD93B210F79415FE0F6388C1C932C208319FF7D7E99C972B3535C9F19A9FF9
    d1 = 0x04914C20251A59A2C311102944C600430A02285A0433144228142A1848004C00
    w = 0x6CB28D99385C175C94F94E934817663FC176D925DD72B727260DBAAE1FB2F96F
    h_a = z_of(b"Alice", mul(x, G))
    big_w, t, lam = implicit(x, w, mul(d1, G), h_a)
    assert h_a.hex().upper().startswith("CC2DC29253D9C773")
    assert t == 0xBBB6EBEB993D1EE3E5F4C265107D3AF7C094169A0E7DDD0A7400638BE271614F
    assert mul((t + d1) % N, G) == add(big_w, mul(lam, mul(x, G)))
    d_a = 0x81EB26E941BB5AF16DF116495F90695272AE2CD63D6C4AE1678418BE48230029
    r_a = 0xD4DE15474DB74D06491C440D305E012400990F3E390C7E87153C12DB2EA60BB3
    d_b = 0x785129917D45A9EA5437A59356B82338EAADDA6CEB199088F14AE10DEFA229B5
    r_b = 0x7E07124814B309489125EAED101113164EBF0F3458C5BD88335C1F9D596243D6
    z_a, z_b = (z_of(b"1234567812345678", mul(d, G)) for d in (d_a, d_b))
    points = mul(r_a, G), mul(r_b, G)
    a = exchange(d_a, r_a, points[0], mul(d_b, G), points[1], z_a, z_b, *points, 16)
    b = exchange(d_b, r_b, points[1], mul(d_a, G), points[0], z_a, z_b, *points, 16)
    assert a == b and a[0].hex().upper() == "6C89347354DE2484C60B4AB1FDE4C6E5"
    assert a[1].hex().upper().startswith("D3A0FE15DEE185CE")
    assert a[2].hex().upper().startswith("18C7894B3816DF16")
    sealed = sm4gcm_seal(bytes.fromhex("0123456789ABCDEFFEDCBA9876543210"),
                         bytes.fromhex("00001234567800000000ABCD"),
                         bytes.fromhex("FEEDFACEDEADBEEFFEEDFACEDEADBEEFABADDAD2"),
                         b"".join(bytes([v]) * 8 for v in bytes.fromhex("AABBCCDDEEFFEEAA")))
    assert sealed.hex().upper() == (
        "17F399F08C67D5EE19D0DC9969C4BB7D5FD46FD3756489069157B282BB200735"
        "D82710CA5C22F0CCFA7CBF93D496AC15A56834CBCF98C397B4024A2691233B8D"
        "83DE3541E4C2B58177E065A9BF7B62EC")


# --- the project's own ------------------------------------------------------------------------
METER_AGREE, DC_AGREE = 1, 3
DC, DC_EPOCH, METER, METER_EPOCH = "dc-7", 2, "MAC000123", 5
TAG, INSIST, CHAIN, TERM, SESSION = 0x01020304, 1, b"\xab" * 32, 17, 0x1112131415161718


def name(text):
    return bytes([len(text)]) + text.encode()


def draw(number, i):
    return kdf(48, b"amiledger trace", bytes([number]), be(i, 4))


class Network:
    def __init__(self, scheme):
        self.scheme = scheme
        self.x, *rest = (wide(draw(scheme, i)) for i in range(4))
        self.p_pub = mul(self.x, G)
        self.id = labelled("amiledger network v1", name("trace"), bytes([scheme]),
                           compressed(self.p_pub), *(compressed(mul(k, G)) for k in rest))

    def key_id(self, role, text, epoch):
        return b"amiledger id v1\0" + self.id + bytes([role]) + be(epoch, 4) + name(text)


def flight1(part):
    return (name(METER) + be(METER_EPOCH, 4) + be(TAG, 4) + bytes([INSIST]) + be(len(part), 4) +
            part)


def flight2(scheme, part):
    return (name(METER) + be(TAG, 4) + CHAIN + bytes([scheme]) + be(TERM, 8) + be(SESSION, 8) +
            name(DC) + be(DC_EPOCH, 4) + be(len(part), 4) + part)


def session(out, k):
    parties = labelled("amiledger session parties v1", be(SESSION, 8), name(METER),
                       be(METER_EPOCH, 4), name(DC), be(DC_EPOCH, 4))
    out["parties"] = parties
    texts = [b"", b"first reading", b"a second one, longer than a block"]
    for direction, label in ((1, "up"), (2, "down")):
        seed = hmac(k, b"amiledger session v1\0", bytes([direction, 1]), parties)
        base = num(hmac(k, b"amiledger session v1\0", bytes([direction, 2]), parties)[:8])
        for i, text in enumerate(texts):
            material = sm3(be((base + i) % 2**64, 8), seed)
            aad = parties + bytes([direction]) + be(i, 8) + bytes([i + 1])
            out[f"{label}.{i}"] = sm4gcm_seal(material[:16], material[16:28], aad, text)
            seed = sm3(seed)


def sm2kx(out):
    net = Network(2)
    keys = {}
    for who, role, text, epoch, at in (("dc", DC_AGREE, DC, DC_EPOCH, 10),
                                       ("meter", METER_AGREE, METER, METER_EPOCH, 20)):
        ident = net.key_id(role, text, epoch)
        d1 = wide(draw(2, at))
        u_a = mul(d1, G)
        big_w, t, lam = implicit(net.x, wide(draw(2, at + 1)), u_a, z_of(ident, net.p_pub))
        p = add(big_w, mul(lam, net.p_pub))
        d = (t + d1) % N
        assert mul(d, G) == p
        keys[who] = d, p, z_of(ident, p), big_w
        out[f"{who}.request"] = compressed(u_a)
        out[f"{who}.secret"] = be(t, 32)
        out[f"{who}.part"] = compressed(big_w)
        out[f"{who}.d"] = be(d, 32)
    d_a, p_a, z_a, _ = keys["meter"]
    d_b, p_b, z_b, w_b = keys["dc"]
    r_a, r_b = wide(draw(2, 30)), wide(draw(2, 31))
    points = mul(r_a, G), mul(r_b, G)
    k, s_b, s_a = exchange(d_a, r_a, points[0], p_b, points[1], z_a, z_b, *points, 32)
    assert (k, s_b, s_a) == exchange(d_b, r_b, points[1], p_a, points[0], z_a, z_b, *points, 32)
    part1 = compressed(points[0])
    part2 = compressed(w_b) + compressed(points[1]) + s_b
    k_c = hmac(k, b"amiledger sm2kx confirm v1\0")
    c_b = hmac(k_c, b"\2", flight1(part1), flight2(2, part2))
    c_a = hmac(k_c, b"\3", flight1(part1), flight2(2, part2 + c_b))
    out.update(network=net.id, x=be(net.x, 32), flight1=part1, flight2=part2 + c_b,
               flight3=s_a + c_a, k=k)
    session(out, k)


def liu2023(out):
    net = Network(1)
    id_dc = net.key_id(DC_AGREE, DC, DC_EPOCH)
    id_sm = net.key_id(METER_AGREE, METER, METER_EPOCH)
    r_dc, r_sm = wide(draw(1, 10)), wide(draw(1, 20))
    big_r = compressed(mul(r_dc, G))
    y_dc = mul(net.x, hash_to_curve(id_dc + big_r, b"amiledger liu2023 H1 v1"))
    h = wide(kdf(48, b"amiledger liu2023 H2 v1\0", id_sm, compressed(y_dc)))
    y_sm = h * net.x % N
    s_sm = (y_sm + r_sm) % N
    a, b = wide(draw(1, 30)), wide(draw(1, 31))
    big_a = (a + r_sm) % N
    k = mul(b, add(mul(big_a, G), mul(h, net.p_pub)))
    assert k == mul((s_sm + a) % N, mul(b, G))

    def tag(number):
        return labelled("amiledger liu2023 tag v1", bytes([number]), compressed(k))
    out.update({
        "network": net.id, "x": be(net.x, 32),
        "dc.request": big_r, "dc.secret": b"", "dc.part": compressed(y_dc), "dc.d": be(r_dc, 32),
        "meter.request": b"", "meter.secret": be(y_sm, 32), "meter.part": compressed(y_dc),
        "meter.d": be(s_sm, 32),
        "flight1": be(big_a, 32), "flight2": compressed(mul(b, G)) + tag(0), "flight3": tag(1),
    })
    out["k"] = kdf(32, b"amiledger liu2023 key v1\0", id_sm, id_dc, compressed(k))
    session(out, out["k"])


def main():
    check_self()
    wanted = {}
    for scheme in (liu2023, sm2kx):
        values = {}
        scheme(values)
        wanted.update({f"{scheme.__name__}.{key}": value.hex() for key, value in values.items()})
    run = subprocess.run([sys.argv[1]], capture_output=True, text=True, check=True, timeout=120)
    printed = dict(line.split("=", 1) for line in run.stdout.splitlines())
    failed = 0
    for key in sorted(wanted.keys() | printed.keys()):
        if wanted.get(key) != printed.get(key):
            failed += 1
            print(f"{key}\n  program {printed.get(key)}\n  oracle  {wanted.get(key)}")
    print(f"{len(wanted)} values compared, {failed} differ")
    return 1 if failed or not wanted else 0


if __name__ == "__main__":
    sys.exit(main())
