'use strict';
// Bundles: docs/FORMAT.md, sections 2 to 4 and 12; making them, and the ten checks.

const sodium = require('libsodium-wrappers');
const basics = require('./basics.js');
const chains = require('./chain.js');
const der = require('./der.js');
const json = require('./strict_json.js');
const keys = require('./keys.js');
const shapes = require('./shapes.js');
const x509 = require('./x509.js');
const { must, under } = require('./errors.js');

const MANIFEST = 'application/vnd.split-horizon-relay.manifest.v1+json';
const REHEARSAL = 'application/vnd.split-horizon-relay.rehearsal.v1+json';
const MALFORMED = 'bundle/malformed';
const [MOST_ENVELOPE, MOST_PAYLOAD, MOST_CHAIN, MOST_SEALED] = [350552, 262144, 200000, 16384];
const [AHEAD, BEGINS_AHEAD] = [3600, 300];

const ENVELOPE = shapes.members({
  payload: shapes.octets(),
  payloadType: shapes.text(),
  signatures: shapes.list(
    shapes.members({ keyid: shapes.digest, sig: shapes.octets(64) }), 1, 1),
});
const COMMON = {
  ...{ format: shapes.oneOf(1), agent: shapes.digest, recipient: shapes.digest },
  ...{ certificate: shapes.certificateId, names: shapes.names, generation: shapes.integer(1) },
  ...{ issued_at: shapes.integer(), not_after: shapes.integer() },
  ...{ key_origin: shapes.oneOf('agent', 'puller'), spki_sha256: shapes.digest },
  ...{ chain: shapes.text(MOST_CHAIN) },
};
const SEALED = { ...COMMON, sealed_key: shapes.octets(undefined, MOST_SEALED) };

/** DSSE's pre-authentication encoding: what is signed. */
function pae(type, payload) {
  const head = `DSSEv1 ${Buffer.byteLength(type)} ${type} ${payload.length} `;
  return Buffer.concat([Buffer.from(head), payload]);
}

/** The context of a sealed key (section 2): its digest stands before the key. */
function sealContext({ agent, recipient, generation, spki, certificate }) {
  const [number, length] = [Buffer.alloc(8), Buffer.alloc(2)];
  number.writeBigUInt64BE(BigInt(generation));
  length.writeUInt16BE(Buffer.byteLength(certificate));
  const fixed = ['split-horizon-relay/seal/v1\0', agent, recipient, number, spki, length];
  return Buffer.concat([...fixed, certificate].map((one) => Buffer.from(one)));
}

const contextOf = (manifest) =>
  sealContext({
    agent: Buffer.from(manifest.agent, 'hex'),
    recipient: Buffer.from(manifest.recipient, 'hex'),
    generation: manifest.generation,
    spki: Buffer.from(manifest.spki_sha256, 'hex'),
    certificate: manifest.certificate,
  });

/** Seal a private key for the recipient of a manifest. */
function seal(privateKey, manifest, recipientPublic) {
  const plain = Buffer.concat([basics.sha256(contextOf(manifest)), privateKey]);
  return Buffer.from(sodium.crypto_box_seal(plain, recipientPublic));
}

/** Open a sealed key, and compare its context. */
function open(sealed, manifest, identity) {
  let plain;
  try {
    plain = sodium.crypto_box_seal_open(sealed, identity.publicKey, identity.privateKey);
  } catch {
    must(false, 'bundle/seal-broken', 'it does not open');
  }
  const found = Buffer.from(plain);
  const right = found.subarray(0, 32).equals(basics.sha256(contextOf(manifest)));
  must(right, 'bundle/seal-broken', 'sealed for another context');
  return found.subarray(32);
}

/** A signed envelope around a manifest. */
function sign(manifest, key, type = MANIFEST) {
  const payload = json.write(manifest);
  const sig = key.sign(pae(type, payload)).toString('base64');
  const signatures = [{ keyid: key.id, sig }];
  return json.write({ payload: payload.toString('base64'), payloadType: type, signatures });
}

// Checks 1 to 3: the verified payload and the manifest in it.
function verified(octets, agentPublic, type) {
  must(octets.length <= MOST_ENVELOPE, MALFORMED, 'the envelope is too large');
  const { payload, payloadType, signatures } = under(MALFORMED, () => ENVELOPE(json.read(octets)));
  must(payload.length <= MOST_PAYLOAD, MALFORMED, 'the payload is too large');
  must(payloadType === type, MALFORMED, 'another payload type');
  const [{ keyid, sig }] = signatures;
  const signed = keyid === basics.keyId(agentPublic) && basics.verifies(agentPublic, pae(type, payload), sig);
  must(signed, 'bundle/bad-signature', 'not signed by the agent');
  const manifest = under(MALFORMED, () => {
    const value = json.read(payload);
    const own = value.key_origin === 'puller';
    return shapes.members(own ? COMMON : SEALED)(value);
  });
  return { manifest, digest: basics.sha256(payload).toString('hex') };
}

/**
 * The ten checks. Returns what may be installed.
 *
 * asked: { agentPublic, identity, now, rehearsal, certificate, keyOrigins, wanted (names),
 * rootSets, floor: { generation, digest }, pending: private keys in PKCS#8 }.
 */
function accept(octets, asked) {
  const type = asked.rehearsal ? REHEARSAL : MANIFEST;
  const { manifest, digest } = verified(octets, asked.agentPublic, type);
  const agent = basics.keyId(asked.agentPublic);
  must(manifest.agent === agent, 'bundle/wrong-agent', 'another agent');
  must(manifest.recipient === asked.identity.id, 'bundle/wrong-recipient', 'for another puller');
  must(manifest.certificate === asked.certificate, 'bundle/unknown-certificate', 'not the one asked for');
  if (!asked.rehearsal) {
    must(asked.keyOrigins.includes(manifest.key_origin), 'bundle/key-origin-refused', 'the key origin');
    checkGeneration(manifest, digest, asked);
  }
  const chain = readChain(manifest, asked.now);
  const leafKey = chains.checkChain(chain, rootSets(asked, chain), asked.now);
  checkNames(chain[0], manifest.names, asked.wanted);
  const privateKey = checkKey(manifest, chain[0], leafKey, asked);
  const pem = chain.map((one) => x509.encodePem(one.octets)).join('');
  return { manifest, digest, chain: pem, privateKey };
}

// A rehearsal's chain ends in roots that the operator gives, or in its own last certificate.
function rootSets(asked, chain) {
  return asked.rehearsal && chain.length > 1 && asked.rootSets.length === 0
    ? [[chain.at(-1)]]
    : asked.rootSets;
}

function checkGeneration({ generation }, digest, { floor, now }) {
  must(generation >= floor.generation, 'bundle/stale-generation', 'below the floor');
  must(generation <= now + AHEAD, 'bundle/future-generation', 'too far ahead');
  const same = generation !== floor.generation || digest === floor.digest;
  must(same, 'bundle/conflicting-generation', 'the floor has another digest');
}

function readChain(manifest, now) {
  const blocks = x509.pemCertificates(manifest.chain);
  must(blocks && blocks.length >= 1 && blocks.length <= 10, MALFORMED, 'not 1 to 10 certificates');
  const chain = under(MALFORMED, () => blocks.map(x509.certificate));
  const { begins, ends } = chain[0];
  const valid = begins <= now + BEGINS_AHEAD && now < ends && manifest.not_after === ends;
  must(valid, 'bundle/outside-validity', 'expired, too early, or another end than promised');
  return chain;
}

function checkNames(leaf, names, wanted) {
  const found = under('bundle/name-mismatch', () =>
    x509.generalNames(leaf.extensions.get(x509.ID.names).octets));
  const texts = found.map((one) => one.text).sort();
  const exact = found.every((one) => one.kind === 'dns') && texts.join() === names.join();
  must(exact, 'bundle/name-mismatch', 'the leaf has other names');
  const covered = wanted.every((name) => covers(names, name));
  must(covered, 'bundle/name-mismatch', 'a name that a target needs is missing');
}

const covers = (names, wanted) =>
  names.includes(wanted) || (!wanted.startsWith('*.') && names.includes(`*${wanted.slice(wanted.indexOf('.'))}`));

function checkKey(manifest, leaf, leafKey, { identity, pending }) {
  const spki = basics.sha256(leaf.spki).toString('hex');
  must(spki === manifest.spki_sha256, keys.MISMATCH, 'spki_sha256 is not the leaf\'s');
  if (manifest.key_origin === 'agent') {
    return keys.checkPrivate(open(manifest.sealed_key, manifest, identity), leafKey).octets;
  }
  for (const key of pending) {
    try {
      return keys.checkPrivate(key, leafKey).octets;
    } catch (error) {
      if (error.type !== keys.MISMATCH) throw error;
    }
  }
  return must(false, keys.MISMATCH, 'none of the keys pending here');
}

module.exports = { MANIFEST, REHEARSAL, pae, contextOf, seal, open, sign, verified, accept };
