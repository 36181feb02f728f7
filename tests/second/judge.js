'use strict';
// Judges every vector by docs/FORMAT.md: node tests/second/judge.js tests/vectors
//
// Prints a line for each disagreement and one for each folder. Ends with 0 if there is none.

const fs = require('node:fs');
const path = require('node:path');
const admission = require('./admission.js');
const basics = require('./basics.js');
const bundle = require('./bundle.js');
const http = require('./http_signatures.js');
const json = require('./strict_json.js');
const keys = require('./keys.js');
const messages = require('./messages.js');
const x509 = require('./x509.js');
const { Refused, must, under } = require('./errors.js');
const { checkCsr } = require('./csr.js');
const { readAll } = require('./vectors.js');
const { readToken } = require('./token.js');

const hex = (text) => Buffer.from(text, 'hex');
const words = (text) => (text ? text.split(',') : []);
/** A value beside the verdict that the vector tells, and this implementation finds. */
const same = (found, told) =>
  must(told === undefined || String(found) === told, 'another value', `${found}, not ${told}`);

function judgeBundle({ fields, octets, folder }, rehearsal = false) {
  const near = [folder, path.join(folder, '..', 'bundle')].map((one) => path.join(one, fields.root));
  const text = fs.readFileSync(near.find((one) => fs.existsSync(one)), 'latin1');
  const roots = x509.pemCertificates(text).map(x509.certificate);
  const any = fields['target-key-origin'] === 'any';
  bundle.accept(octets, {
    agentPublic: hex(fields.agent),
    identity: basics.sealingKey(hex(fields.identity)),
    now: Number(fields.now),
    rehearsal,
    certificate: fields.target,
    keyOrigins: any ? ['agent', 'puller'] : [fields['target-key-origin']],
    wanted: words(fields['target-names']),
    rootSets: [roots],
    floor: { generation: Number(fields['floor-generation']), digest: fields['floor-digest'] },
    pending: words(fields['pending-key']).map(hex),
  });
}

function judgeRequest(authenticated, { fields, octets }) {
  const keyOf = (id) => (id === fields.keyid ? hex(fields.key) : undefined);
  const own = authenticated({ ...fields, fields, body: octets }, keyOf);
  admission.judge(own, Number(fields.now));
}

function judgeAnswer({ fields, octets }) {
  const request = hex(fields['request-signature']);
  http.verifyAnswer(fields.status, octets, fields, request, hex(fields.key));
}

function judgeJson({ fields, octets }) {
  const value = json.read(octets);
  same(json.write(value).toString('hex'), fields.written);
}

function judgeSeal({ fields, octets }) {
  const manifest = {
    ...{ agent: fields['agent-id'], recipient: fields.recipient, certificate: fields.certificate },
    ...{ generation: Number(fields.generation), spki_sha256: fields['spki-sha256'] },
  };
  const found = bundle.open(octets, manifest, basics.sealingKey(hex(fields.identity)));
  same(found.toString('hex'), fields['opens-to']);
  same(bundle.contextOf(manifest).toString('hex'), fields.context);
}

function judgeListing({ fields, octets }) {
  const { come_back: told } = under('malformed-message', () => messages.listing(json.read(octets)));
  same(messages.comeBack(told), fields['come-back']);
}

function judgeReceipts({ fields, octets }) {
  const asked = fields.of === 'request';
  const type = asked ? 'malformed-request' : 'malformed-message';
  const read = asked ? messages.receipts : messages.refused;
  must(asked || octets.length <= messages.MOST_REFUSALS, type, 'too large');
  const found = under(type, () => read(json.read(octets)));
  const indices = asked
    ? messages.unreadable(found.receipts, messages.receipt).map((one) => one.index)
    : found.refused.map((one) => one.index);
  same(indices.join(), fields.refused);
}

const FOLDERS = {
  json: judgeJson,
  keys: ({ fields, octets }) => {
    const { spki } = keys.checkPrivate(octets);
    must(basics.sha256(spki).toString('hex') === fields['spki-sha256'], keys.MISMATCH, 'of another leaf');
  },
  sealing: judgeSeal,
  bundle: (vector) => judgeBundle(vector),
  rehearsal: (vector) => judgeBundle(vector, true),
  token: ({ fields, octets }) => readToken(octets.toString('latin1'), Number(fields.now)),
  enrolment: (vector) => judgeRequest(admission.authenticateEnrolment, vector),
  request: (vector) => judgeRequest(admission.authenticate, vector),
  answers: judgeAnswer,
  listing: judgeListing,
  receipts: judgeReceipts,
  csr: ({ fields, octets }) => checkCsr(octets, words(fields.names)),
};

/** What this implementation says about a vector: `success`, or the type of its error. */
function verdict(kind, vector) {
  try {
    FOLDERS[kind](vector);
    return ['success', ''];
  } catch (error) {
    return error instanceof Refused ? [error.type, error.reason] : ['a crash', error.stack];
  }
}

/** Judge a folder; print what differs. Returns how many vectors it has, and how many differ. */
function judgeFolder(kind, vectors) {
  if (!FOLDERS[kind]) {
    console.log(`${kind}/: a folder that is not judged here`);
    return [vectors.length, vectors.length];
  }
  const wrong = vectors.filter((vector) => {
    const [said, why] = verdict(kind, vector);
    const { expect, comment } = vector.fields;
    if (said === expect) return false;
    console.log(`${kind}/${vector.name}: ${said} in place of ${expect} (${comment}) ${why}`);
    return true;
  });
  return [vectors.length, wrong.length];
}

async function main([root]) {
  await basics.ready;
  const table = [...readAll(root)].map(([kind, vectors]) => [kind, ...judgeFolder(kind, vectors)]);
  for (const [kind, count, wrong] of table) {
    console.log(`${kind.padEnd(12)} ${String(count).padStart(5)} vectors ${String(wrong).padStart(5)} wrong`);
  }
  const sum = (column) => table.reduce((total, row) => total + row[column], 0);
  console.log(`${sum(1)} vectors, ${sum(2)} disagreements`);
  return sum(1) > 0 && sum(2) === 0 ? 0 : 1;
}

main(process.argv.slice(2)).then((status) => {
  process.exitCode = status;
});
