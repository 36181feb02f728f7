'use strict';
// Judges every vector by docs/FORMAT.md: node tests/second/judge.js tests/vectors
//
// Prints a line for each disagreement and one for each folder. Ends with 0 if there is none.

const fs = require('node:fs');
const path = require('node:path');
const basics = require('./basics.js');
const bundle = require('./bundle.js');
const http = require('./http_signatures.js');
const x509 = require('./x509.js');
const { Refused } = require('./errors.js');
const { checkCsr } = require('./csr.js');
const { readAll } = require('./vectors.js');
const { readToken } = require('./token.js');

const hex = (text) => Buffer.from(text, 'hex');
const words = (text) => (text ? text.split(',') : []);

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

function judgeRequest({ fields, octets }) {
  const request = { ...fields, body: octets };
  const read = http.readRequest(request, fields, [fields.label]).get(fields.label);
  http.verifyRequest(request, fields, read, hex(fields.key));
}

const FOLDERS = {
  bundle: (vector) => judgeBundle(vector),
  rehearsal: (vector) => judgeBundle(vector, true),
  token: ({ fields, octets }) => readToken(octets.toString('latin1'), Number(fields.now)),
  request: judgeRequest,
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
  let wrong = 0;
  for (const vector of vectors) {
    const [said, why] = verdict(kind, vector);
    if (said === vector.fields.expect) continue;
    wrong += 1;
    const { expect, comment } = vector.fields;
    console.log(`${kind}/${vector.name}: ${said} in place of ${expect} (${comment}) ${why}`);
  }
  return [vectors.length, wrong];
}

async function main([root]) {
  await basics.ready;
  const table = [];
  for (const [kind, vectors] of readAll(root)) {
    if (FOLDERS[kind]) table.push([kind, ...judgeFolder(kind, vectors)]);
    else table.push([kind, vectors.length, vectors.length]);
    if (!FOLDERS[kind]) console.log(`${kind}/: a folder that is not judged here`);
  }
  for (const [kind, count, wrong] of table) {
    console.log(`${kind.padEnd(12)} ${String(count).padStart(5)} vectors ${String(wrong).padStart(5)} wrong`);
  }
  const sum = (column) => table.reduce((total, row) => total + row[column], 0);
  console.log(`${sum(1)} vectors, ${sum(2)} disagreements`);
  return sum(1) > 0 && sum(2) === 0 ? 0 : 1;
}

if (require.main === module) {
  main(process.argv.slice(2)).then((status) => {
    process.exitCode = status;
  });
}

module.exports = { verdict };
