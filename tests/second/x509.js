'use strict';
// What check 8 and 9 read of a certificate (RFC 5280), and the signatures of certificates.

const crypto = require('node:crypto');
const der = require('./der.js');
const { base64 } = require('./basics.js');

const RSA_PKCS1 = {
  '1.2.840.113549.1.1.11': 'sha256',
  '1.2.840.113549.1.1.12': 'sha384',
  '1.2.840.113549.1.1.13': 'sha512',
};
const ECDSA = {
  '1.2.840.10045.4.3.2': 'sha256',
  '1.2.840.10045.4.3.3': 'sha384',
  '1.2.840.10045.4.3.4': 'sha512',
};
const HASHES = {
  '2.16.840.1.101.3.4.2.1': 'sha256',
  '2.16.840.1.101.3.4.2.2': 'sha384',
  '2.16.840.1.101.3.4.2.3': 'sha512',
};
const [RSA_PSS, MGF1] = ['1.2.840.113549.1.1.10', '1.2.840.113549.1.1.8'];
const KINDS = {
  ...{ 0xa0: 'other', 0x81: 'mail', 0x82: 'dns', 0xa3: 'x400', 0xa4: 'directory', 0xa5: 'edi' },
  ...{ 0x86: 'uri', 0x87: 'address', 0x88: 'id' },
};
const ID = {
  ...{ ownKey: '2.5.29.14', keyUsage: '2.5.29.15', names: '2.5.29.17', basic: '2.5.29.19' },
  ...{ nameConstraints: '2.5.29.30', authorityKey: '2.5.29.35', usage: '2.5.29.37' },
};

/** Read one certificate; what does not parse is refused with `malformed`. */
function certificate(octets) {
  const [body, outer, signature, ...more] = der.inside(der.only(octets));
  der.need(signature && more.length === 0, 'not a certificate');
  const parts = der.inside(body);
  der.need(parts[0]?.tag === 0xa0, 'not version 3');
  der.need(der.integer(der.only(parts[0].content)) === 2n, 'not version 3');
  const [, serial, algorithm, issuer, validity, subject, spki, ...rest] = parts;
  der.integer(serial);
  der.need(spki && outer.all.equals(algorithm.all), 'two signature algorithms');
  const [begins, ends] = der.inside(validity).map(der.time);
  for (const name of [issuer, subject]) der.inside(name).forEach((one) => der.inside(one, der.SET));
  const found = { octets, tbs: body.all, algorithm: outer, begins, ends, spki: spki.all };
  const [from, to] = [issuer.all, subject.all];
  const extensions = readExtensions(rest);
  return { ...found, issuer: from, subject: to, extensions, signature: der.wholeBits(signature) };
}

function readExtensions(rest) {
  const kept = rest.filter((one) => one.tag !== 0x81 && one.tag !== 0x82); // unique identifiers
  der.need(kept.length <= 1 && (!kept[0] || kept[0].tag === 0xa3), 'something unknown');
  return kept[0] ? extensionList(der.only(kept[0].content)) : new Map();
}

/** Extensions by object identifier: whether each is critical, and its octets. */
function extensionList(value) {
  const found = new Map();
  for (const one of der.inside(value)) {
    const parts = der.inside(one);
    const critical = parts.length === 3 ? der.boolean(parts[1]) : false;
    der.need(parts.length === 2 || (parts.length === 3 && critical), 'a broken extension');
    const id = der.oid(parts[0]);
    der.need(!found.has(id), `the extension ${id} twice`);
    found.set(id, { critical, octets: der.content(parts.at(-1), der.OCTETS) });
  }
  return found;
}

/** GeneralNames: of each its kind and its octets. */
function generalNames(octets) {
  return der.inside(der.only(octets)).map((one) => {
    der.need(KINDS[one.tag], 'a name of no kind there is');
    return { kind: KINDS[one.tag], octets: one.content, text: one.content.toString('latin1') };
  });
}

/** The hash and padding of a signature algorithm that rule 4 allows, or null. */
function signatureScheme(value) {
  const [id, parameters] = der.inside(value);
  const found = der.oid(id);
  if (ECDSA[found]) return parameters ? null : { hash: ECDSA[found], kind: 'ec' };
  if (RSA_PKCS1[found]) return { hash: RSA_PKCS1[found], kind: 'rsa', options: {} };
  return found === RSA_PSS && parameters ? pss(parameters) : null;
}

function pss(parameters) {
  const given = new Map(der.inside(parameters).map((one) => [one.tag, der.only(one.content)]));
  const hashOf = (value) => HASHES[der.oid(der.inside(value)[0])];
  const mask = given.has(0xa1) ? der.inside(given.get(0xa1)) : [];
  const hash = given.has(0xa0) ? hashOf(given.get(0xa0)) : undefined;
  if (!hash || mask.length !== 2 || der.oid(mask[0]) !== MGF1) return null;
  if (hashOf(mask[1]) !== hash) return null;
  const saltLength = given.has(0xa2) ? Number(der.integer(given.get(0xa2))) : 20;
  const padding = crypto.constants.RSA_PKCS1_PSS_PADDING;
  return { hash, kind: 'rsa', options: { padding, saltLength } };
}

/** Whether this key made this signature, by a scheme of rule 4. */
function signedBy(scheme, octets, signature, key) {
  if (!scheme || scheme.kind !== key.asymmetricKeyType) return false;
  try {
    return crypto.verify(scheme.hash, octets, { key, ...scheme.options }, signature);
  } catch {
    return false;
  }
}

const LINE = '(?:[A-Za-z0-9+/=]{64}\\n)*[A-Za-z0-9+/=]{1,64}\\n';
const BLOCK = new RegExp(`-----BEGIN CERTIFICATE-----\\n(${LINE})-----END CERTIFICATE-----\\n`, 'y');

/** The DER octets of certificates in the strict PEM of section 2, or null for another spelling. */
function pemCertificates(text) {
  const found = [];
  for (BLOCK.lastIndex = 0; BLOCK.lastIndex < text.length; ) {
    const block = BLOCK.exec(text);
    const octets = block && base64(block[1].replaceAll('\n', ''));
    if (!octets) return null;
    found.push(octets);
  }
  return found;
}

const encodePem = (octets) => {
  const lines = octets.toString('base64').match(/.{1,64}/g);
  return ['-----BEGIN CERTIFICATE-----', ...lines, '-----END CERTIFICATE-----', ''].join('\n');
};

module.exports = {
  ...{ ID, certificate, extensionList, generalNames, signatureScheme, signedBy },
  ...{ pemCertificates, encodePem },
};
