'use strict';
// Signed requests and answers: docs/FORMAT.md, sections 5 and 6 (RFC 9421 in one profile).

const basics = require('./basics.js');
const { must } = require('./errors.js');

const MALFORMED = 'signature-malformed';
const BAD = 'not-authenticated';
const UNAUTHENTICATED = 'answer-unauthenticated';
const MOST_FIELD = 1024;
const REQUEST = ['"@method"', '"@authority"', '"@path"', '"@query"'];
const DIGEST = '"content-digest"';
const ANSWER = ['"@status"', DIGEST, '"signature";req;key="shr"'];
const TAGS = { shr: 'shr1-request', token: 'shr1-token' };

const contentDigest = (body) => `sha-256=:${basics.sha256(body).toString('base64')}:`;

/** The signature base: a line for each component, and the parameters. */
function base(components, values, parameters) {
  const lines = components.map((one) => `${one}: ${values[one]}`);
  return Buffer.from([...lines, `"@signature-params": ${parameters}`].join('\n'));
}

const requestValues = ({ method, authority, path, query, digest }) => ({
  '"@method"': method,
  '"@authority"': authority,
  '"@path"': path,
  '"@query"': `?${query}`,
  [DIGEST]: digest,
});

const hasBody = (method) => method === 'POST' || method === 'PUT';
const covered = (method) => (hasBody(method) ? [...REQUEST, DIGEST] : REQUEST);

/**
 * Header fields of a request. signers: [label, key] pairs, in the order of the fields.
 *
 * request: { method, authority, path, query, body }.
 */
function signRequest(request, signers, created, nonce) {
  const fields = {};
  if (hasBody(request.method)) fields['content-digest'] = contentDigest(request.body);
  const components = covered(request.method);
  const values = requestValues({ ...request, digest: fields['content-digest'] });
  const inputs = [];
  const signatures = [];
  for (const [label, key] of signers) {
    const parameters =
      `(${components.join(' ')});created=${created};keyid="${key.id}";alg="ed25519"` +
      `;nonce="${nonce}";tag="${TAGS[label]}"`;
    inputs.push(`${label}=${parameters}`);
    const made = key.sign(base(components, values, parameters));
    signatures.push(`${label}=:${made.toString('base64')}:`);
  }
  fields['signature-input'] = inputs.join(', ');
  fields.signature = signatures.join(', ');
  return fields;
}

/** The members of one of the two fields: label and what follows it. */
function dictionary(text, what) {
  must(typeof text === 'string', MALFORMED, `no ${what}`);
  must(text.length <= MOST_FIELD, MALFORMED, `${what} is too long`);
  const found = new Map();
  for (const one of text.split(', ')) {
    const [, label, value] = /^([a-z]+)=(.*)$/s.exec(one) ?? [];
    must(label && !found.has(label), MALFORMED, `a broken ${what}`);
    found.set(label, value);
  }
  return found;
}

/** What a request says of its signatures: of each label its parameters; refused where malformed. */
function readRequest(request, fields, labels = ['shr']) {
  const inputs = dictionary(fields['signature-input'], 'Signature-Input');
  const signatures = dictionary(fields.signature, 'Signature');
  const same = (found) => [...found.keys()].join() === labels.join();
  must(same(inputs) && same(signatures), MALFORMED, 'other labels');
  const all = labels.map((label) => {
    const read = parameters(inputs.get(label), covered(request.method), TAGS[label]);
    return { ...read, signature: signatureOctets(signatures.get(label)) };
  });
  const alike = all.every((one) => one.created === all[0].created && one.nonce === all[0].nonce);
  must(alike, MALFORMED, 'two moments, or two nonces');
  return new Map(labels.map((label, index) => [label, all[index]]));
}

function parameters(text, components, tag) {
  const head = `(${components.join(' ')})`;
  const pattern =
    /^;created=(0|[1-9][0-9]{0,11});keyid="([0-9a-f]{64})";alg="ed25519";nonce="([A-Za-z0-9_-]{22})";tag="([a-z0-9-]+)"$/;
  const found = text.startsWith(head) && pattern.exec(text.slice(head.length));
  must(found && found[4] === tag, MALFORMED, 'not the one profile');
  return { text, created: Number(found[1]), keyid: found[2], nonce: found[3] };
}

function signatureOctets(text) {
  const octets = /^:([A-Za-z0-9+/=]+):$/.exec(text ?? '');
  const found = octets && basics.base64(octets[1]);
  must(found && found.length === 64, MALFORMED, 'a broken signature');
  return found;
}

/** Refuse what this key did not sign. `read` is what readRequest found for the label. */
function verifyRequest(request, fields, read, publicKey) {
  const digest = fields['content-digest'];
  if (hasBody(request.method)) must(digest === contentDigest(request.body), BAD, 'another body');
  must(read.keyid === basics.keyId(publicKey), BAD, 'another key');
  const octets = base(covered(request.method), requestValues({ ...request, digest }), read.text);
  must(basics.verifies(publicKey, octets, read.signature), BAD, 'not signed by this key');
}

/** Header fields of an answer; requestSignature: that of the request's label `shr`, in octets. */
function signAnswer(status, body, requestSignature, key, created) {
  const digest = contentDigest(body);
  const text = `(${ANSWER.join(' ')});created=${created};keyid="${key.id}";alg="ed25519";tag="shr1-response"`;
  const made = key.sign(base(ANSWER, answerValues(status, digest, requestSignature), text));
  return {
    'content-digest': digest,
    'signature-input': `shr=${text}`,
    signature: `shr=:${made.toString('base64')}:`,
  };
}

const answerValues = (status, digest, requestSignature) => ({
  '"@status"': status,
  [DIGEST]: digest,
  [ANSWER[2]]: `:${requestSignature.toString('base64')}:`,
});

/** Refuse an answer that the agent did not sign for this request. Returns its `created`. */
function verifyAnswer(status, body, fields, requestSignature, publicKey) {
  const need = (holds, reason) => must(holds, UNAUTHENTICATED, reason);
  const pattern = /^shr=(\(.*\);created=(0|[1-9][0-9]{0,11});keyid="([0-9a-f]{64})";alg="ed25519";tag="shr1-response")$/;
  const found = pattern.exec(fields['signature-input'] ?? '');
  need(found && found[1].startsWith(`(${ANSWER.join(' ')});created`), 'not the one profile');
  const octets = /^shr=:([A-Za-z0-9+/=]+):$/.exec(fields.signature ?? '');
  const signature = octets && basics.base64(octets[1]);
  need(signature && signature.length === 64, 'a broken signature');
  need(found[3] === basics.keyId(publicKey), 'another key');
  const digest = fields['content-digest'];
  need(digest === contentDigest(body), 'another body');
  const signed = base(ANSWER, answerValues(status, digest, requestSignature), found[1]);
  need(basics.verifies(publicKey, signed, signature), 'not signed for this request');
  return Number(found[2]);
}

module.exports = {
  ...{ MALFORMED, BAD, UNAUTHENTICATED, hasBody, signRequest, readRequest, verifyRequest, signAnswer, verifyAnswer },
};
