'use strict';
// Enrolment tokens: docs/FORMAT.md, section 7.

const net = require('node:net');
const basics = require('./basics.js');
const json = require('./strict_json.js');
const shapes = require('./shapes.js');
const { must, under } = require('./errors.js');

const MALFORMED = 'token-malformed';
const [PREFIX, LONGEST] = ['shr1_', 2048];
const SHAPE = shapes.members({
  url: shapes.when((one) => typeof one === 'string' && isOrigin(one), 'an origin'),
  agent: shapes.octets(32),
  seed: shapes.octets(32),
  tls: shapes.nullOr(shapes.digest),
  expires: shapes.integer(),
});

/** Whether a text is an origin in its one spelling. */
function isOrigin(text) {
  const found = /^(https?):\/\/(\[[0-9a-f:.]+\]|[a-z0-9.-]+)(?::([1-9][0-9]{0,4}))?$/.exec(text);
  if (!found) return false;
  const [, scheme, host, port] = found;
  const defaultPort = scheme === 'https' ? '443' : '80';
  if (port && (Number(port) > 65535 || port === defaultPort)) return false;
  const bare = host.replace(/^\[|\]$/g, '');
  if (host.startsWith('[') ? !net.isIPv6(bare) : /^[.-]|\.\.|[.-]$/.test(host)) return false;
  const loopback = bare === '::1' || (net.isIPv4(bare) && bare.startsWith('127.'));
  return scheme === 'https' || loopback;
}

/** Read a token; refused with `token-malformed` or, after its end, `token-expired`. */
function readToken(line, now) {
  const text = line.trim();
  must(text.startsWith(PREFIX) && text.length <= LONGEST, MALFORMED, 'not a token');
  const octets = basics.base64url(text.slice(PREFIX.length));
  must(octets && octets.length > 4, MALFORMED, 'not base64url in its one spelling');
  const [body, sum] = [octets.subarray(0, -4), octets.subarray(-4)];
  must(basics.sha256(body).subarray(0, 4).equals(sum), MALFORMED, 'the checksum is another');
  const token = under(MALFORMED, () => SHAPE(json.read(body)));
  must(now <= token.expires, 'token-expired', 'too late');
  return token;
}

/** Write a token: { url, agent, seed (octets), tls, expires }. */
function writeToken({ url, agent, seed, tls, expires }) {
  const [key, secret] = [agent.toString('base64'), seed.toString('base64')];
  const body = json.write({ url, agent: key, seed: secret, tls, expires });
  const sum = basics.sha256(body).subarray(0, 4);
  return PREFIX + Buffer.concat([body, sum]).toString('base64url');
}

module.exports = { isOrigin, readToken, writeToken };
