'use strict';
// An agent of one's own, with a CA of its own, for one puller after the other:
//
//   node agent.js CERTIFICATE[=puller] ...
//
// Certificates are called by their name; `=puller` where the puller makes the key. It prints one
// line of JSON { url, token, root } and then one for each line on stdin: `issue CERTIFICATE`,
// `token`, `state`. The end of stdin ends it.

const https = require('node:https');
const readline = require('node:readline');
const admission = require('./admission.js');
const basics = require('./basics.js');
const bundles = require('./bundle.js');
const json = require('./strict_json.js');
const make = require('./make.js');
const messages = require('./messages.js');
const signatures = require('./http_signatures.js');
const x509 = require('./x509.js');
const { Refused, must, under } = require('./errors.js');
const { checkCsr } = require('./csr.js');
const { writeToken } = require('./token.js');

const now = () => Math.floor(Date.now() / 1000);
const [NONCES, MOST_WAIT, DAY] = [600, 50, 86400];
const STATUS = {
  ...{ 'malformed-request': 400, 'signature-malformed': 400, 'body-not-allowed': 400, clock: 400 },
  ...{ 'not-authenticated': 401, 'token-expired': 403, 'certificate-unknown': 404, 'not-found': 404 },
  ...{ 'method-not-allowed': 405, 'replayed-nonce': 409, 'token-used': 409, 'body-too-large': 413 },
  ...{ 'csr-refused': 422, 'keys-refused': 422 },
};
const CALLS = { list: ['since', 'wait', 'installation', 'host'], bundle: ['after'] };
const problem = (slug, holds, reason) => must(holds, slug, reason);

class Agent {
  constructor(certificates) {
    this.key = basics.signingKey();
    this.caKey = make.newKey();
    this.root = make.root('Second Root', this.caKey, now() - DAY, now() + 3650 * DAY);
    this.certificates = new Map(
      certificates.map((one) => {
        const [id, keyOrigin = 'agent'] = one.split('=');
        const none = { generation: 0, notAfter: 0, csr: null, bundle: null };
        return [id, { id, keyOrigin, names: [id], ...none }];
      }),
    );
    this.tokens = new Map(); // by key id: the key, and whose keys redeemed it
    this.puller = null;
    this.nonces = new Map();
    this.receipts = [];
    this.waiting = [];
  }

  // --- what an operator and a CA do

  token() {
    const seed = basics.signingKey();
    this.tokens.set(seed.id, { publicKey: seed.publicKey, redeemed: null });
    const where = { url: this.url, agent: this.key.publicKey, tls: this.tls };
    return writeToken({ ...where, seed: seed.seed, expires: now() + 3600 });
  }

  issue(id) {
    const one = this.certificates.get(id);
    [one.generation, one.notAfter] = [Math.max(now(), one.generation + 1), now() + 90 * DAY];
    const { bundle, leaf } = this.bundle(one, one.csr, bundles.MANIFEST);
    [one.bundle, one.csr] = [bundle, null];
    this.changed();
    return { generation: one.generation, leaf_sha256: basics.sha256(leaf).toString('hex') };
  }

  /** A leaf for the key of a CSR, or for a new one that is sealed, in a bundle of that type. */
  bundle(one, csr, type) {
    const [key, ends] = [csr ? null : make.newKey(), one.notAfter || now() + 90 * DAY];
    const spki = csr ? csr.octets : make.spkiOf(key);
    const issuer = { name: 'Second Root', key: this.caKey };
    const leaf = make.leaf(one.names, spki, now() - 60, ends, issuer);
    const manifest = {
      ...{ format: 1, agent: this.key.id, recipient: this.puller.sealingId, certificate: one.id },
      ...{ names: [...one.names].sort(), generation: one.generation || now(), issued_at: now() },
      ...{ not_after: ends, key_origin: csr ? 'puller' : 'agent', chain: x509.encodePem(leaf) },
      spki_sha256: basics.sha256(spki).toString('hex'),
    };
    const sealed = key && bundles.seal(make.pkcs8(key), manifest, this.puller.sealingKey);
    if (sealed) manifest.sealed_key = sealed.toString('base64');
    return { bundle: bundles.sign(manifest, this.key, type), leaf };
  }

  state() {
    const csrs = [...this.certificates.values()].filter((one) => one.csr).map((one) => one.id);
    return { receipts: this.receipts, waiting: this.waiting.length, csrs };
  }

  changed() {
    for (const wake of this.waiting.splice(0)) wake();
  }

  // --- the protocol

  /** Status, fields and body for a request: { method, target, fields, body }. */
  async answer(given) {
    const [path, ...more] = given.target.split('?');
    const request = { ...given, authority: new URL(this.url).host, path, query: more.join('?') };
    let own;
    let status = 200;
    let value;
    try {
      own = this.verify(request);
      value = await this.decide(request, own);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      status = STATUS[error.type];
      const [type, title] = [messages.PROBLEM + error.type, error.type];
      value = { type, title, status, detail: error.reason };
    }
    const body = json.write(value);
    const type = status === 200 ? 'application/json' : 'application/problem+json';
    const fields = { 'content-type': type, 'content-length': body.length };
    if (own) Object.assign(fields, signatures.signAnswer(status, body, own.signature, this.key, now()));
    return { status, fields, body };
  }

  // Steps 1 to 3 of section 5: what fails here is refused unsigned.
  verify(request) {
    if (request.path === '/v1/enrolments') {
      return admission.authenticateEnrolment(request, (id) => this.tokens.get(id)?.publicKey);
    }
    const known = (id) => (id === this.puller?.id ? this.puller.publicKey : undefined);
    return admission.authenticate(request, known);
  }

  decide(request, own) {
    admission.judge(own, now());
    if (request.method !== 'GET') this.once(own.nonce);
    if (own.token) return this.enrol(own);
    const [, , kind, id, what] = request.path.split('/');
    const query = readQuery(request.query, CALLS[what ?? 'list'] ?? []);
    if (kind === 'receipts' && request.method === 'POST') return this.takeReceipts(request.body);
    problem('not-found', kind === 'certificates', 'not offered here');
    if (id === undefined) return this.list(query);
    const one = this.certificates.get(id);
    problem('certificate-unknown', one, 'not granted');
    if (what === 'bundle') {
      const newer = one.generation > Number(query.get('after') ?? 0);
      return { newest: one.generation, bundle: newer ? one.bundle.toString('utf8') : null };
    }
    if (what === 'rehearsal') return this.rehearse(one);
    problem('not-found', what === 'csr' && request.method === 'PUT', 'not offered here');
    one.csr = checkCsr(request.body, one.names);
    this.changed();
    return { accepted: true };
  }

  once(nonce) {
    for (const [known, until] of this.nonces) if (until < now()) this.nonces.delete(known);
    problem('replayed-nonce', !this.nonces.has(nonce), 'a nonce that was used');
    this.nonces.set(nonce, now() + NONCES);
  }

  enrol({ token, offer, keyid }) {
    const one = this.tokens.get(token.keyid);
    problem('token-used', one.redeemed === null || one.redeemed === keyid, 'by other keys');
    one.redeemed = keyid;
    const sealingKey = offer.sealing_key;
    const sealingId = basics.keyId(sealingKey);
    this.puller = { id: keyid, publicKey: offer.signing_key, sealingKey, sealingId };
    const granted = [...this.certificates.values()].map(({ id, names }) => ({ certificate: id, names }));
    return { puller: keyid, granted };
  }

  listing() {
    const certificates = [...this.certificates.values()].map((one) => ({
      ...{ certificate: one.id, names: one.names, generation: one.generation },
      ...{ not_after: one.notAfter, key_origin: one.keyOrigin },
      csr_wanted: one.keyOrigin === 'puller' && one.csr === null,
    }));
    // Not what any puller could compute: it has to return what it was given.
    const version = `v~${basics.sha256(this.key.seed, json.write(certificates)).toString('base64url').slice(0, 20)}`;
    return { certificates, come_back: 3600, version };
  }

  async list(query) {
    const until = now() + Math.min(Number(query.get('wait') ?? 0), MOST_WAIT);
    while (this.listing().version === query.get('since') && now() < until) {
      let timer;
      await new Promise((resolve) => {
        this.waiting.push(resolve);
        timer = setTimeout(resolve, (until - now()) * 1000);
      });
      clearTimeout(timer);
    }
    return this.listing();
  }

  // There is no staging CA here to wait for: done at once.
  rehearse(one) {
    const { bundle } = this.bundle(one, null, bundles.REHEARSAL);
    const steps = [{ name: 'order', good: true, what: 'It was issued.', do: '' }];
    const staging = 'https://staging.example.com/directory';
    return { outcome: 'done', staging, steps, bundle: bundle.toString('utf8') };
  }

  takeReceipts(body) {
    const { receipts } = under('malformed-request', () => messages.receipts(json.read(body)));
    const refused = messages.unreadable(receipts, messages.receipt);
    const bad = new Set(refused.map((one) => one.index));
    this.receipts.push(...receipts.filter((_, index) => !bad.has(index)));
    return { refused };
  }
}

// No member but those of the call, none of them twice.
function readQuery(text, members) {
  const found = new Map();
  for (const one of text ? text.split('&') : []) {
    const [name, ...value] = one.split('=');
    problem('malformed-request', members.includes(name) && !found.has(name), `the member ${name}`);
    found.set(name, value.join('='));
  }
  for (const name of ['wait', 'after']) {
    problem('malformed-request', /^(0|[1-9][0-9]{0,15})$/.test(found.get(name) ?? '0'), name);
  }
  return found;
}

async function bodyOf(request) {
  const chunks = [];
  let length = 0;
  for await (const chunk of request) {
    length += chunk.length;
    if (length > admission.MOST_BODY) return null;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

async function serve(agent) {
  const key = make.newKey();
  const issuer = { name: 'Second Relay', key };
  const [begins, ends] = [now() - DAY, now() + 30 * DAY];
  const shown = make.leaf(['relay.example.com'], make.spkiOf(key), begins, ends, issuer);
  const pem = key.export({ format: 'pem', type: 'pkcs8' });
  const server = https.createServer({ key: pem, cert: x509.encodePem(shown) }, async (request, response) => {
    const body = await bodyOf(request);
    if (body === null) return request.destroy();
    const given = { method: request.method, target: request.url, fields: request.headers, body };
    const { status, fields, body: answer } = await agent.answer(given);
    response.writeHead(status, fields).end(answer);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  agent.url = `https://127.0.0.1:${server.address().port}`;
  agent.tls = basics.sha256(make.spkiOf(key)).toString('hex');
}

async function main(certificates) {
  await basics.ready;
  const agent = new Agent(certificates);
  await serve(agent);
  const print = (value) => console.log(JSON.stringify(value));
  print({ url: agent.url, token: agent.token(), root: x509.encodePem(agent.root) });
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [command, id] = line.split(' ');
    if (command === 'issue') print(agent.issue(id));
    else if (command === 'token') print({ token: agent.token() });
    else print(agent.state());
  }
  process.exit(0);
}

main(process.argv.slice(2));
