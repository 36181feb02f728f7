'use strict';
// One signed call to a relay, and the verified answer: docs/FORMAT.md, sections 5 and 6.

const crypto = require('node:crypto');
const http = require('node:http');
const tls = require('node:tls');
const basics = require('./basics.js');
const json = require('./strict_json.js');
const messages = require('./messages.js');
const signatures = require('./http_signatures.js');
const { Refused, must } = require('./errors.js');

const MOST_ANSWER = 8 * 1024 * 1024;

/** A TLS connection to the pinned key; without a pin the roots of the system decide. */
async function connect(url, pin) {
  const { hostname, port } = url;
  const host = hostname.replace(/^\[|\]$/g, '');
  const servername = /^[\d.]+$|:/.test(host) ? '' : host;
  const options = { host, port: port || 443, servername, rejectUnauthorized: pin === null };
  const socket = tls.connect({ ...options, autoSelectFamily: true }); // localhost may be ::1, too
  await new Promise((resolve, reject) => socket.once('secureConnect', resolve).once('error', reject));
  const spki = socket.getPeerX509Certificate().publicKey.export({ format: 'der', type: 'spki' });
  const right = pin === null || basics.sha256(spki).toString('hex') === pin;
  if (!right) socket.destroy();
  must(right, 'transport/tls-failed', 'the relay has another key');
  return socket;
}

async function exchange(url, pin, method, target, headers, body, seconds) {
  const socket = await connect(url, pin);
  try {
    return await new Promise((resolve, reject) => {
      const options = { createConnection: () => socket, method, path: target, headers };
      const request = http.request({ ...options, timeout: seconds * 1000 });
      request.on('error', reject).on('timeout', () => request.destroy(new Error('no answer')));
      request.on('response', (answer) => {
        const chunks = [];
        let length = 0;
        answer.on('error', reject).on('data', (chunk) => {
          length += chunk.length;
          if (length > MOST_ANSWER) request.destroy(new Error('an answer that is too large'));
          chunks.push(chunk);
        });
        answer.on('end', () =>
          resolve({ status: answer.statusCode, fields: answer.headers, body: Buffer.concat(chunks) }),
        );
      });
      request.end(body.length ? body : undefined);
    });
  } finally {
    socket.destroy();
  }
}

/**
 * Make a call. signers: [label, key] pairs, the one with the label `shr` among them.
 * Returns the object in a good answer; a signed problem is refused under its own type.
 */
async function call(relay, signers, method, path, options) {
  const { query = '', body = Buffer.alloc(0), shape, seconds = 30 } = options;
  const url = new URL(relay.url);
  const request = { method, authority: url.host, path, query, body };
  const nonce = crypto.randomBytes(16).toString('base64url');
  const signed = signatures.signRequest(request, signers, Math.floor(Date.now() / 1000), nonce);
  const own = /(?:^|, )shr=:([^:]*):/.exec(signed.signature)[1];
  const headers = { ...signed, host: url.host, 'accept-encoding': 'identity' };
  if (method === 'POST' || method === 'PUT') headers['content-length'] = body.length;
  const target = query ? `${path}?${query}` : path;
  const answer = await exchange(url, relay.tls, method, target, headers, body, seconds);
  const encoding = answer.fields['content-encoding'] ?? 'identity';
  must(encoding === 'identity', signatures.UNAUTHENTICATED, 'an answer in another encoding');
  const signature = Buffer.from(own, 'base64');
  const agent = Buffer.from(relay.agent, 'hex');
  signatures.verifyAnswer(answer.status, answer.body, answer.fields, signature, agent);
  const value = json.read(answer.body);
  if (answer.status === 200) return shape(value);
  const problem = messages.problem(value);
  throw new Refused(problem.type.slice(messages.PROBLEM.length), problem.detail ?? '');
}

module.exports = { call };
