'use strict';
// A puller of one's own: node puller.js STATE COMMAND ..., one JSON object on stdout.
//
//   enrol            with the token on stdin
//   list             what is granted
//   wait SECONDS     the same, once it is another than at the last look
//   pull ROOT        leave CSRs, fetch, check and open what is new; install it in STATE; report it
//   rehearse ID ROOT a rehearsal of one certificate
//   examine          the two halves of a diagnosis
//   report           that a certificate which this machine gets by itself is in place
//
// Ends with 0, or with 1 and { "error": type }.

const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const basics = require('./basics.js');
const bundles = require('./bundle.js');
const json = require('./strict_json.js');
const make = require('./make.js');
const messages = require('./messages.js');
const x509 = require('./x509.js');
const { call } = require('./relay_client.js');
const { readToken } = require('./token.js');

const now = () => Math.floor(Date.now() / 1000);
const hex = (text) => Buffer.from(text, 'hex');
const HELD = 50;

/** The state of a puller: one file, written anew and renamed. */
class State {
  constructor(folder) {
    this.folder = folder;
    this.file = path.join(folder, 'state.json');
    this.values = fs.existsSync(this.file) ? JSON.parse(fs.readFileSync(this.file)) : {};
  }

  save(values) {
    Object.assign(this.values, values);
    fs.mkdirSync(this.folder, { recursive: true, mode: 0o700 });
    fs.writeFileSync(`${this.file}.new`, JSON.stringify(this.values), { mode: 0o600 });
    fs.renameSync(`${this.file}.new`, this.file);
  }

  get signing() {
    return basics.signingKey(hex(this.values.signing));
  }

  get sealing() {
    return basics.sealingKey(hex(this.values.sealing));
  }

  call(method, where, options) {
    return call(this.values.relay, [['shr', this.signing]], method, where, options);
  }
}

async function enrol(state) {
  const token = readToken(fs.readFileSync(0, 'latin1'), now());
  const [signing, sealing] = [basics.signingKey(), basics.sealingKey()];
  const relay = { url: token.url, agent: token.agent.toString('hex'), tls: token.tls };
  const own = { signing: signing.seed.toString('hex'), sealing: sealing.privateKey.toString('hex') };
  state.save({ relay, ...own, floors: {}, pending: {} }); // before anything is sent
  const body = json.write({
    signing_key: signing.publicKey.toString('base64'),
    sealing_key: sealing.publicKey.toString('base64'),
    host: os.hostname(),
    at: now(),
  });
  const signers = [['token', basics.signingKey(token.seed)], ['shr', signing]];
  return call(relay, signers, 'POST', '/v1/enrolments', { body, shape: messages.enrolled });
}

async function list(state, query = '') {
  const options = { query, shape: messages.listing, seconds: HELD + 10 };
  const found = await state.call('GET', '/v1/certificates', options);
  state.save({ version: found.version });
  return found;
}

const wait = (state, seconds) => list(state, `since=${state.values.version}&wait=${Number(seconds)}`);

async function pull(state, rootFile) {
  const { certificates } = await list(state);
  const done = [];
  for (const offer of certificates) {
    if (offer.csr_wanted) await leaveCsr(state, offer);
    const floor = state.values.floors[offer.certificate] ?? { generation: 0, digest: '' };
    if (offer.generation <= floor.generation) continue;
    done.push(await pullOne(state, offer, floor, rootFile));
  }
  if (done.length === 0) return { receipts: [], refused: [] };
  const options = { body: json.write({ receipts: done }), shape: messages.refused };
  return { receipts: done, ...(await state.call('POST', '/v1/receipts', options)) };
}

async function leaveCsr(state, { certificate, names }) {
  const key = make.newKey();
  const kept = [make.pkcs8(key).toString('hex'), ...(state.values.pending[certificate] ?? [])];
  state.save({ pending: { ...state.values.pending, [certificate]: kept.slice(0, 4) } });
  const options = { body: make.csr(key, names), shape: messages.accepted };
  await state.call('PUT', `/v1/certificates/${certificate}/csr`, options);
}

async function pullOne(state, { certificate, names }, floor, rootFile) {
  const options = { query: `after=${floor.generation}`, shape: messages.bundle };
  const answer = await state.call('GET', `/v1/certificates/${certificate}/bundle`, options);
  const octets = Buffer.from(answer.bundle, 'utf8');
  const common = { certificate, generation: answer.newest, served: [], at: now() };
  try {
    const found = bundles.accept(octets, asked(state, certificate, names, floor, rootFile));
    const { digest, manifest } = found;
    const floors = { ...state.values.floors, [certificate]: { generation: manifest.generation, digest } };
    state.save({ floors }); // durable before it is activated
    const place = path.join(state.folder, certificate);
    fs.writeFileSync(`${place}.key`, found.privateKey, { mode: 0o600 });
    fs.writeFileSync(`${place}.pem`, found.chain);
    return { ...common, digest, outcome: 'installed', error: 'none' };
  } catch (error) {
    if (!error.type) throw error;
    const digest = basics.sha256(octets).toString('hex');
    return { ...common, digest, outcome: 'refused', error: error.type };
  }
}

function asked(state, certificate, names, floor, rootFile) {
  const roots = x509.pemCertificates(fs.readFileSync(rootFile, 'latin1')).map(x509.certificate);
  return {
    agentPublic: hex(state.values.relay.agent),
    identity: state.sealing,
    now: now(),
    certificate,
    keyOrigins: state.values.pending[certificate] ? ['puller'] : ['agent', 'puller'],
    wanted: names,
    rootSets: [roots],
    floor,
    pending: (state.values.pending[certificate] ?? []).map(hex),
  };
}

async function rehearse(state, certificate, rootFile) {
  const where = `/v1/certificates/${certificate}/rehearsal`;
  let answer = await state.call('POST', where, { shape: messages.rehearsal });
  while (answer.outcome === 'running') {
    await new Promise((resolve) => setTimeout(resolve, 200));
    answer = await state.call('GET', where, { shape: messages.rehearsal });
  }
  if (answer.outcome === 'failed') return answer;
  const floor = { generation: 0, digest: '' };
  const all = { ...asked(state, certificate, [], floor, rootFile), rehearsal: true };
  const { manifest } = bundles.accept(Buffer.from(answer.bundle), all);
  return { ...answer, bundle: null, manifest: { names: manifest.names, recipient: manifest.recipient } };
}

function examine(state) {
  const finding = { check: 'second', verdict: 'ok', subject: 'here', what: 'It runs.', do: '' };
  const half = { side: 'puller', host: os.hostname(), at: now(), findings: [finding], names: [] };
  const options = { body: json.write(half), shape: messages.examination, seconds: 60 };
  return state.call('POST', '/v1/doctor', options);
}

function report(state) {
  const [leaf, end] = ['ab'.repeat(32), now() + 86400];
  const served = [{ leaf_sha256: leaf, not_after: end, address: null }];
  const place = { generation: 1, not_after: end, leaf_sha256: leaf, next_renewal: 0 };
  const rest = { outcome: 'installed', error: 'none', served, at: now() };
  const one = { certificate: 'own.example.com', names: ['own.example.com'], ...place, ...rest };
  const options = { body: json.write({ reports: [one] }), shape: messages.refused };
  return state.call('POST', '/v1/direct', options);
}

const COMMANDS = { enrol, list: (state) => list(state), wait, pull, rehearse, examine, report };

async function main([folder, command, ...more]) {
  await basics.ready;
  try {
    console.log(JSON.stringify(await COMMANDS[command](new State(folder), ...more)));
  } catch (error) {
    if (!error.type) throw error;
    console.log(JSON.stringify({ error: error.type, reason: error.reason }));
    process.exitCode = 1;
  }
}

main(process.argv.slice(2));
