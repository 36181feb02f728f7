'use strict';
// Keys, CSRs and certificates, written in DER: what a puller and a CA for tests make.

const crypto = require('node:crypto');

/** One DER value. */
function value(tag, ...parts) {
  const content = Buffer.concat(parts);
  const [high, low] = [content.length >> 8, content.length & 255];
  const short = content.length < 0x80 ? [low] : [0x81, low];
  return Buffer.concat([Buffer.from([tag, ...(high ? [0x82, high, low] : short)]), content]);
}

const sequence = (...parts) => value(0x30, ...parts);
const octets = (...parts) => value(0x04, ...parts);
const bits = (content) => value(0x03, Buffer.from([0]), content);
const integer = (number) => value(0x02, Buffer.from([number]));
const TRUE = Buffer.from([1, 1, 0xff]);

function oid(text) {
  const [one, two, ...rest] = text.split('.').map(Number);
  const found = [one * 40 + two];
  for (const arc of rest) {
    const digits = [arc & 127];
    for (let left = arc >>> 7; left > 0; left >>>= 7) digits.unshift((left & 127) | 128);
    found.push(...digits);
  }
  return value(0x06, Buffer.from(found));
}

const ECDSA_SHA256 = sequence(oid('1.2.840.10045.4.3.2'));
const spkiOf = (key) => crypto.createPublicKey(key).export({ format: 'der', type: 'spki' });
const commonName = (text) =>
  sequence(value(0x31, sequence(oid('2.5.4.3'), value(0x0c, Buffer.from(text)))));
const extension = (id, critical, content) =>
  sequence(oid(id), ...(critical ? [TRUE] : []), octets(content));
const namesExtension = (names) =>
  extension('2.5.29.17', false, sequence(...names.map((one) => value(0x82, Buffer.from(one)))));

/** A new key for a certificate: EC on P-256. */
const newKey = () => crypto.generateKeyPairSync('ec', { namedCurve: 'prime256v1' }).privateKey;

const pkcs8 = (key) => key.export({ format: 'der', type: 'pkcs8' });

const signed = (body, key) =>
  sequence(body, ECDSA_SHA256, bits(crypto.sign('sha256', body, key)));

/** A PKCS#10 request with these names and an empty subject. */
function csr(key, names) {
  const request = value(0x31, sequence(namesExtension(names)));
  const attributes = value(0xa0, sequence(oid('1.2.840.113549.1.9.14'), request));
  return signed(sequence(integer(0), sequence(), spkiOf(key), attributes), key);
}

function time(seconds) {
  const text = new Date(seconds * 1000).toISOString().replace(/[-:T]|\.\d+/g, '');
  return value(0x17, Buffer.from(text.slice(2)));
}

/** A certificate; spki: of its subject; issuer: { name, key }. */
function certificate({ subject, spki, begins, ends, extensions, issuer }) {
  const serial = value(0x02, Buffer.from([1]), crypto.randomBytes(15));
  const body = sequence(
    ...[value(0xa0, integer(2)), serial, ECDSA_SHA256, commonName(issuer.name)],
    ...[sequence(time(begins), time(ends)), commonName(subject), spki],
    value(0xa3, sequence(...extensions)),
  );
  return signed(body, issuer.key);
}

/** A CA's own certificate. */
function root(name, key, begins, ends) {
  const extensions = [
    extension('2.5.29.19', true, sequence(TRUE)),
    extension('2.5.29.15', true, Buffer.from([3, 2, 1, 6])), // keyCertSign, cRLSign
  ];
  const [spki, issuer] = [spkiOf(key), { name, key }];
  return certificate({ subject: name, spki, begins, ends, extensions, issuer });
}

/** A server's certificate. */
function leaf(names, spki, begins, ends, issuer) {
  const serverAuth = sequence(oid('1.3.6.1.5.5.7.3.1'));
  const extensions = [extension('2.5.29.37', false, serverAuth), namesExtension(names)];
  return certificate({ subject: names[0], spki, begins, ends, extensions, issuer });
}

module.exports = { newKey, pkcs8, spkiOf, csr, root, leaf };
