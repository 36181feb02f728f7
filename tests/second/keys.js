'use strict';
// Keys of certificates: docs/FORMAT.md, section 1 ("Keys of certificates"), and check 10.

const crypto = require('node:crypto');
const der = require('./der.js');
const { must, under } = require('./errors.js');

const UNSUITABLE = 'bundle/unsuitable-key';
const MISMATCH = 'bundle/key-mismatch';
const [EC, RSA] = ['1.2.840.10045.2.1', '1.2.840.113549.1.1.1'];
const CURVES = {
  '1.2.840.10045.3.1.7': { name: 'P-256', node: 'prime256v1', size: 32 },
  '1.3.132.0.34': { name: 'P-384', node: 'secp384r1', size: 48 },
  '1.3.132.0.35': { name: 'P-521', node: 'secp521r1', size: 66 },
};
const ORDERS = {
  'P-256': 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n,
  'P-384':
    0xffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973n,
};
const unsuitable = (holds, reason) => must(holds, UNSUITABLE, reason);
const number = (octets) => BigInt(`0x${octets.toString('hex')}`);
const bitLength = (value) => value.toString(2).length;

/** What kind of key an AlgorithmIdentifier names: a curve, or RSA. */
function algorithm(value) {
  const [kind, parameters, ...more] = der.inside(value);
  der.need(more.length === 0, 'an algorithm with more than parameters');
  const found = der.oid(kind);
  if (found === EC) {
    unsuitable(parameters?.tag === der.OID, 'not a named curve');
    const curve = CURVES[der.oid(parameters)];
    unsuitable(curve, 'a curve that a certificate may not have');
    return { kind: 'EC', curve };
  }
  unsuitable(found === RSA, 'neither EC nor RSA');
  der.need(parameters?.tag === der.NULL && parameters.content.length === 0, 'RSA with parameters');
  return { kind: 'RSA' };
}

/** Read a SubjectPublicKeyInfo whatever its size; explicit parameters and odd points are refused. */
function readPublic(octets) {
  return under(UNSUITABLE, () => {
    const [info, bits, ...more] = der.inside(der.only(octets));
    der.need(more.length === 0, 'more than a public key');
    const kind = algorithm(info);
    const raw = der.wholeBits(bits);
    if (kind.kind === 'EC') {
      unsuitable(raw[0] === 4 && raw.length === 1 + 2 * kind.curve.size, 'not a whole point');
    } else {
      const parts = der.inside(der.only(raw)).map(der.integer);
      der.need(parts.length === 2, 'not an RSA key');
      [kind.n, kind.e] = parts;
    }
    let object;
    try {
      object = crypto.createPublicKey({ key: octets, format: 'der', type: 'spki' });
    } catch (error) {
      unsuitable(false, `not a key: ${error.message}`); // such as a point beside the curve
    }
    return { ...kind, raw, object, octets };
  });
}

/** The key of a certificate: P-256, P-384, RSA of 2048, 3072 or 4096 bits with 65537. */
function certificateKey(octets) {
  const key = readPublic(octets);
  if (key.kind === 'EC') unsuitable(key.curve.name in ORDERS, `EC on ${key.curve.name}`);
  else rsaSize(key.n, key.e);
  return key;
}

function rsaSize(n, e) {
  unsuitable([2048, 3072, 4096].includes(bitLength(n)), `RSA of ${bitLength(n)} bits`);
  unsuitable(e === 65537n, `the public exponent ${e}`);
}

/** An issuer's key, rule 4 of check 8: EC on P-256, P-384 or P-521, or RSA of at least 2048. */
function issuerKey(octets) {
  const key = readPublic(octets);
  if (key.kind === 'RSA') unsuitable(bitLength(key.n) >= 2048, 'RSA of less than 2048 bits');
  return key;
}

/**
 * A private key as check 10 wants it: PKCS#8 in its one spelling, right in itself, and the leaf's
 * where that is given. Returns the key encoded anew, and its public half.
 */
function checkPrivate(octets, leafKey) {
  const { kind, inner } = under(UNSUITABLE, () => {
    const [version, info, wrapped, ...more] = der.inside(der.only(octets));
    der.need(more.length === 0, 'a private key with attributes');
    der.need(der.integer(version) === 0n, 'not version 0');
    return { kind: algorithm(info), inner: der.inside(der.only(der.content(wrapped, der.OCTETS))) };
  });
  if (kind.kind === 'EC') ecPoint(kind.curve, inner);
  else rsaNumbers(inner);
  const object = crypto.createPrivateKey({ key: octets, format: 'der', type: 'pkcs8' });
  const spki = crypto.createPublicKey(object).export({ format: 'der', type: 'spki' });
  must(!leafKey || spki.equals(leafKey.octets), MISMATCH, 'not the key of the leaf');
  return { octets: object.export({ format: 'der', type: 'pkcs8' }), spki };
}

function ecPoint(curve, inner) {
  unsuitable(curve.name in ORDERS, `EC on ${curve.name}`);
  const [scalar, point] = under(UNSUITABLE, () => {
    der.need(inner.length === 3 && der.integer(inner[0]) === 1n, 'not an EC key with its public half');
    const found = der.content(inner[1], der.OCTETS);
    der.need(found.length === curve.size, 'a scalar of another length');
    return [found, der.wholeBits(der.only(der.content(inner[2], 0xa1), der.BITS))];
  });
  unsuitable(point[0] === 4 && point.length === 1 + 2 * curve.size, 'not a whole point');
  const value = number(scalar);
  must(value > 0n && value < ORDERS[curve.name], MISMATCH, 'a scalar out of its range');
  const pair = crypto.createECDH(curve.node);
  pair.setPrivateKey(scalar);
  must(pair.getPublicKey().equals(point), MISMATCH, 'the public half is another');
}

function rsaNumbers(inner) {
  const [version, n, e, d, p, q, dp, dq, qi, ...more] = under(UNSUITABLE, () =>
    inner.map(der.integer),
  );
  unsuitable(qi !== undefined && more.length === 0 && version === 0n, 'not an RSA key');
  rsaSize(n, e);
  const right = (holds, reason) => must(holds, MISMATCH, reason);
  right(p > 1n && q > 1n && p !== q && n === p * q, 'the primes are not those of the modulus');
  right(crypto.checkPrimeSync(p) && crypto.checkPrimeSync(q), 'a prime is not prime');
  right(d > 1n && d < n, 'the private exponent is out of its range');
  right((d * e) % (p - 1n) === 1n && (d * e) % (q - 1n) === 1n, 'the private exponent is another');
  right(dp === d % (p - 1n) && dq === d % (q - 1n), 'a remainder is another');
  right(qi > 0n && qi < p && (qi * q) % p === 1n, 'the coefficient is another');
}

module.exports = { UNSUITABLE, MISMATCH, readPublic, certificateKey, issuerKey, checkPrivate };
