'use strict';
// The primitives and the grammars of docs/FORMAT.md, section 1.

const crypto = require('node:crypto');
const sodium = require('libsodium-wrappers');

/** The digest of octets: a Buffer of 32. */
const sha256 = (...parts) => {
  const digest = crypto.createHash('sha256');
  for (const part of parts) digest.update(part);
  return digest.digest();
};

/** Octets of base64 with padding, or null where it is not the one spelling of them. */
function base64(text) {
  const octets = Buffer.from(text, 'base64');
  return octets.toString('base64') === text ? octets : null;
}

/** Octets of base64url without padding, or null. */
function base64url(text) {
  const octets = Buffer.from(text, 'base64url');
  return octets.toString('base64url') === text ? octets : null;
}

const isDigest = (text) => /^[0-9a-f]{64}$/.test(text);

const isCertificateId = (text) =>
  /^[a-z0-9_][a-z0-9._-]{0,199}$/.test(text) && !text.includes('..');

/** A name: at least two labels, `*.` in front of a wildcard, at most 253 characters. */
function isName(text) {
  if (text.length > 253) return false;
  const labels = text.replace(/^\*\./, '').split('.');
  const good = labels.every((one) => /^(?!-)[a-z0-9-]{1,63}$/.test(one) && !one.endsWith('-'));
  return good && labels.length >= 2 && !/^[0-9]+$/.test(labels.at(-1));
}

/** A key pair for signing, from 32 octets of seed, or a new one. */
function signingKey(seed = crypto.randomBytes(32)) {
  const pair = sodium.crypto_sign_seed_keypair(seed);
  const publicKey = Buffer.from(pair.publicKey);
  const sign = (octets) => Buffer.from(sodium.crypto_sign_detached(octets, pair.privateKey));
  return { seed, publicKey, id: keyId(publicKey), sign };
}

/** A key pair for opening, from 32 octets of private key, or a new one. */
function sealingKey(privateKey = crypto.randomBytes(32)) {
  const publicKey = Buffer.from(sodium.crypto_scalarmult_base(privateKey));
  return { privateKey, publicKey, id: keyId(publicKey) };
}

const keyId = (publicKey) => sha256(publicKey).toString('hex');

/** Whether the signature is right; libsodium refuses public keys of low order. */
function verifies(publicKey, octets, signature) {
  try {
    return sodium.crypto_sign_verify_detached(signature, octets, publicKey);
  } catch {
    return false; // a key or signature of another length
  }
}

module.exports = {
  ...{ sha256, base64, base64url, isDigest, isCertificateId, isName },
  ...{ signingKey, sealingKey, keyId, verifies, ready: sodium.ready },
};
