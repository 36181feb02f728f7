'use strict';
// What an agent looks at before it does anything for a request: docs/FORMAT.md, section 5, steps
// 1 to 4, and the two signatures of section 7.

const sodium = require('libsodium-wrappers');
const basics = require('./basics.js');
const http = require('./http_signatures.js');
const json = require('./strict_json.js');
const messages = require('./messages.js');
const { must, under } = require('./errors.js');

const [CLOCK, MOST_BODY] = [300, 65536];
const METHODS = ['GET', 'POST', 'PUT'];

// Steps 1 and 2: the signatures by their labels, and the key that is known under the first one's id.
function present(request, labels, keyOf) {
  must(METHODS.includes(request.method), 'method-not-allowed', request.method);
  const found = http.readRequest(request, request.fields, labels);
  const key = keyOf(found.get(labels[0]).keyid);
  must(key, http.BAD, 'an unknown key');
  const bare = http.hasBody(request.method) || request.body.length === 0;
  must(bare, 'body-not-allowed', 'a body where none belongs');
  must(request.body.length <= MOST_BODY, 'body-too-large', `${request.body.length} octets`);
  return { found, key };
}

/**
 * Steps 1 to 3; keyOf: the public key under a key id, or undefined.
 *
 * request: { method, authority, path, query, body, fields }.
 */
function authenticate(request, keyOf) {
  const { found, key } = present(request, ['shr'], keyOf);
  const own = found.get('shr');
  http.verifyRequest(request, request.fields, own, key);
  return own;
}

/** The same for an enrolment; keyOf: the public key of a token under its key id. */
function authenticateEnrolment(request, keyOf) {
  const { found, key } = present(request, ['token', 'shr'], keyOf);
  const [token, own] = [found.get('token'), found.get('shr')];
  http.verifyRequest(request, request.fields, token, key);
  const offer = under('malformed-request', () => messages.enrolment(json.read(request.body)));
  http.verifyRequest(request, request.fields, own, offer.signing_key);
  return { ...own, token: { keyid: token.keyid, key }, offer };
}

/** Step 4, and whether the keys of an enrolment may be a puller's: what fails is refused signed. */
function judge({ created, token, offer }, now) {
  must(Math.abs(now - created) <= CLOCK, 'clock', `${now - created} s apart`);
  if (!token) return;
  const roles = [token.key, offer.signing_key, offer.sealing_key];
  const distinct = new Set(roles.map((one) => one.toString('hex'))).size === roles.length;
  must(distinct, 'keys-refused', 'one key in two roles');
  must(opens(offer.sealing_key), 'keys-refused', 'a sealing key of low order');
}

/** Whether something can be sealed to a key: not to one of low order. */
function opens(publicKey) {
  try {
    sodium.crypto_scalarmult(basics.sealingKey().privateKey, publicKey);
    return true;
  } catch {
    return false;
  }
}

module.exports = { MOST_BODY, authenticate, authenticateEnrolment, judge };
