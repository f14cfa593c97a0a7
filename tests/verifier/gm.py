"""SM3, SM2 signatures and GM/T 0130 keys in plain Python integers, for checking only.

Written from the standards (GB/T 32905, GB/T 32918.1, .2 and .5, GM/T 0130-2023) and nothing else:
it shares no line with the library whose output it checks. Nothing here is secret, so nothing is
constant time. self_test.py holds it to the standards' own numbers.
"""

# --- SM3, GB/T 32905 ------------------------------------------------------------------------------

_M = 0xFFFFFFFF
_IV = (0x7380166F, 0x4914B2B9, 0x172442D7, 0xDA8A0600, 0xA96F30BC, 0x163138AA, 0xE38DEE4D, 0xB0FB0E4E)


def _rol(x, n):
    return (x << n | x >> (32 - n)) & _M


# T_j <<< (j mod 32), clause 4.2 and 5.3.3.
_T = tuple(_rol(0x79CC4519 if j < 16 else 0x7A879D8A, j % 32) for j in range(64))


def _compress(v, block):
    w = [int.from_bytes(block[i : i + 4], "big") for i in range(0, 64, 4)]
    for j in range(16, 68):
        x = w[j - 3]
        x = w[j - 16] ^ w[j - 9] ^ ((x << 15 | x >> 17) & _M)
        y = w[j - 13]
        w.append(
            x ^ ((x << 15 | x >> 17) & _M) ^ ((x << 23 | x >> 9) & _M)
            ^ ((y << 7 | y >> 25) & _M) ^ w[j - 6]
        )
    a, b, c, d, e, f, g, h = v
    for j in range(64):
        a12 = (a << 12 | a >> 20) & _M
        s = (a12 + e + _T[j]) & _M
        s = (s << 7 | s >> 25) & _M
        if j < 16:
            t1 = ((a ^ b ^ c) + d + (s ^ a12) + (w[j] ^ w[j + 4])) & _M
            t2 = ((e ^ f ^ g) + h + s + w[j]) & _M
        else:
            t1 = ((a & b | a & c | b & c) + d + (s ^ a12) + (w[j] ^ w[j + 4])) & _M
            t2 = ((e & f | ~e & _M & g) + h + s + w[j]) & _M
        d, c, b, a = c, (b << 9 | b >> 23) & _M, a, t1
        h, g, f, e = g, (f << 19 | f >> 13) & _M, e, t2 ^ _rol(t2, 9) ^ _rol(t2, 17)
    return (
        v[0] ^ a, v[1] ^ b, v[2] ^ c, v[3] ^ d, v[4] ^ e, v[5] ^ f, v[6] ^ g, v[7] ^ h
    )


def sm3(message):
    padded = message + b"\x80" + bytes(-(len(message) + 9) % 64) + (8 * len(message)).to_bytes(8, "big")
    v = _IV
    for at in range(0, len(padded), 64):
        v = _compress(v, padded[at : at + 64])
    return b"".join(x.to_bytes(4, "big") for x in v)


# --- the curve, GB/T 32918.5: y^2 = x^3 + ax + b over p, group of prime order n ---------------------

P = 0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF00000000FFFFFFFFFFFFFFFF
N = 0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFF7203DF6B21C6052B53BBF40939D54123
A = P - 3
B = 0x28E9FA9E9D9F5E344D5A9E4BCF6509A7F39789F515AB8F92DDBCBD414D940E93
G = (
    0x32C4AE2C1F1981195F9904466A39C9948FE30BBFF2660BE1715A4589334C74C7,
    0xBC3736A2F4F6779C59BDCEE36B692153D0A9877CC62A474002DF32E52139F0A0,
)

# Points are (x, y) or None for infinity; inside a product (X, Y, Z) with x = X/Z^2, y = Y/Z^3, and
# Z = 0 for infinity.


def _double(q):
    x, y, z = q
    if z == 0 or y == 0:
        return (1, 1, 0)
    zz = z * z % P
    m = 3 * (x - zz) * (x + zz) % P  # 3x^2 + a z^4 with a = -3
    yy = y * y % P
    s = 4 * x * yy % P
    x3 = (m * m - 2 * s) % P
    return (x3, (m * (s - x3) - 8 * yy * yy) % P, 2 * y * z % P)


def _add(q, r):
    if q[2] == 0:
        return r
    if r[2] == 0:
        return q
    x1, y1, z1 = q
    x2, y2, z2 = r
    zz1, zz2 = z1 * z1 % P, z2 * z2 % P
    u1, u2 = x1 * zz2 % P, x2 * zz1 % P
    s1, s2 = y1 * zz2 * z2 % P, y2 * zz1 * z1 % P
    h, t = (u2 - u1) % P, (s2 - s1) % P
    if h == 0:
        return _double(q) if t == 0 else (1, 1, 0)
    hh = h * h % P
    hhh = h * hh % P
    v = u1 * hh % P
    x3 = (t * t - hhh - 2 * v) % P
    return (x3, (t * (v - x3) - s1 * hhh) % P, z1 * z2 * h % P)


def _affine(q):
    if q[2] == 0:
        return None
    i = pow(q[2], -1, P)
    return (q[0] * i * i % P, q[1] * i * i * i % P)


def _jacobian(q):
    return (1, 1, 0) if q is None else (q[0], q[1], 1)


class Comb:
    """Multiples of one point: 64 windows of 4 bits. Made once for a point that is used often."""

    def __init__(self, point):
        self.rows = []
        base = _jacobian(point)
        for _ in range(64):
            row = [(1, 1, 0)]
            for _ in range(15):
                row.append(_add(row[-1], base))
            self.rows.append(row)
            base = _add(row[15], base)

    def times(self, k):
        total = (1, 1, 0)
        for row in self.rows:
            if k & 15:
                total = _add(total, row[k & 15])
            k >>= 4
            if k == 0:
                break
        return total


_G = Comb(G)


def _times(k, point):
    row = [(1, 1, 0), _jacobian(point)]
    for _ in range(14):
        row.append(_add(row[-1], row[1]))
    total = (1, 1, 0)
    for shift in range(252, -1, -4):
        if total[2]:
            total = _double(_double(_double(_double(total))))
        total = _add(total, row[k >> shift & 15])
    return total


def multiply(k, point):
    """k * point."""
    return _affine(_times(k % N, point))


def add(q, r):
    return _affine(_add(_jacobian(q), _jacobian(r)))


def on_curve(point):
    x, y = point
    return 0 <= x < P and 0 <= y < P and (y * y - (x * x * x + A * x + B)) % P == 0


def decode_point(data):
    """A compressed point, 02 or 03 and x (GB/T 32918.1 clause 4.2.9). ValueError when it is none."""
    if len(data) != 33 or data[0] not in (2, 3):
        raise ValueError("not a compressed point")
    x = int.from_bytes(data[1:], "big")
    if x >= P:
        raise ValueError("x is not below p")
    g = (x * x * x + A * x + B) % P
    y = pow(g, (P + 1) // 4, P)  # p = 3 mod 4
    if y * y % P != g:
        raise ValueError("no point of the curve has this x")
    return (x, y if y & 1 == data[0] & 1 else P - y)


def encode_point(point):
    return bytes([2 + (point[1] & 1)]) + point[0].to_bytes(32, "big")


def _b32(v):
    return v.to_bytes(32, "big")


# --- signatures, GB/T 32918.2; keys under implicit certificates, GM/T 0130-2023 ---------------------

_CURVE = _b32(A) + _b32(B) + _b32(G[0]) + _b32(G[1])


def z(identity, point):
    """SM3(ENTL || ID || a || b || xG || yG || x || y), ENTL the bits of ID in 16 bits."""
    return sm3((8 * len(identity)).to_bytes(2, "big") + identity + _CURVE + _b32(point[0]) + _b32(point[1]))


def _verify_e(point, e, signature, comb):
    if len(signature) != 64:
        return False
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    if not (1 <= r < N and 1 <= s < N):
        return False
    t = (r + s) % N
    if t == 0:
        return False
    sum_ = _affine(_add(_G.times(s), comb.times(t) if comb else _times(t, point)))
    return sum_ is not None and (e + sum_[0]) % N == r


class PlainKey:
    """A public key with an ID, as in GB/T 32918.2."""

    def __init__(self, point, identity):
        self.point = point
        self.prefix = z(identity, point)
        self.comb = None
        self.uses = 0

    def verify(self, message, signature):
        # A table of multiples costs about as much as four products.
        self.uses += 1
        if self.uses == 4:
            self.comb = Comb(self.point)
        e = int.from_bytes(sm3(self.prefix + message), "big")
        return _verify_e(self.point, e, signature, self.comb)


class ImplicitKey(PlainKey):
    """The public key that W, the ID and P_pub determine: P = W + lambda P_pub, and e is hashed over
    H_A and W where plain SM2 has Z_A."""

    def __init__(self, w, identity, p_pub):
        h_a = z(identity, p_pub)
        w_xy = _b32(w[0]) + _b32(w[1])
        lam = int.from_bytes(sm3(w_xy + h_a), "big") % N
        point = add(w, multiply(lam, p_pub))
        if point is None:
            raise ValueError("the key is the point at infinity")
        self.point = point
        self.prefix = h_a + w_xy
        self.comb = None
        self.uses = 0
