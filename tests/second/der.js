'use strict';
// DER (X.690), as much of it as certificates, requests and private keys need. Nothing lenient:
// lengths and integers have one spelling, and nothing stands behind a value.

const { must } = require('./errors.js');

const TYPE = 'malformed'; // callers rename it
const [BOOLEAN, INTEGER, BITS, OCTETS, NULL, OID, SEQUENCE, SET] = [1, 2, 3, 4, 5, 6, 0x30, 0x31];
const need = (holds, reason) => must(holds, TYPE, reason);

/** One value at the beginning of octets: its tag, its content, all of it, and what is behind. */
function first(octets) {
  need(octets.length >= 2, 'cut short');
  const tag = octets[0];
  need((tag & 0x1f) !== 0x1f, 'a tag of several octets');
  let length = octets[1];
  let start = 2;
  if (length >= 0x80) {
    const count = length & 0x7f;
    need(count >= 1 && count <= 4 && octets.length >= 2 + count, 'a length that is not DER');
    length = octets.readUIntBE(2, count);
    need(length >= 0x80 && (count === 1 || octets[2] !== 0), 'a length that is not the shortest');
    start += count;
  }
  const end = start + length;
  need(end <= octets.length, 'cut short');
  const [content, all] = [octets.subarray(start, end), octets.subarray(0, end)];
  return { tag, content, all, rest: octets.subarray(end) };
}

/** The only value in octets, with this tag if one is given. */
function only(octets, tag) {
  const found = first(octets);
  need(found.rest.length === 0, 'something behind the value');
  need(tag === undefined || found.tag === tag, `tag ${found.tag} in place of ${tag}`);
  return found;
}

/** The values that octets are, one after the other. */
function several(octets) {
  const found = [];
  for (let left = octets; left.length > 0; left = found.at(-1).rest) found.push(first(left));
  return found;
}

/** The values in a SEQUENCE (or another constructed value). */
const inside = (value, tag = SEQUENCE) => several(content(value, tag));

function content(value, tag) {
  need(value && value.tag === tag, `no value with tag ${tag}`);
  return value.content;
}

function integer(value) {
  const octets = content(value, INTEGER);
  need(octets.length > 0, 'an empty integer');
  const [head, next] = octets;
  const loose = head === 0 ? next < 0x80 : head === 0xff && next >= 0x80;
  need(!loose, 'an integer that is not the shortest');
  return BigInt.asIntN(octets.length * 8, BigInt(`0x${octets.toString('hex')}`));
}

function oid(value) {
  const octets = content(value, OID);
  need(octets.length > 0 && octets.at(-1) < 0x80, 'a broken object identifier');
  const arcs = [];
  let arc = 0n;
  let fresh = true;
  for (const octet of octets) {
    need(!(fresh && octet === 0x80), 'an object identifier that is not the shortest');
    arc = (arc << 7n) | BigInt(octet & 0x7f);
    fresh = octet < 0x80;
    if (fresh) {
      arcs.push(arc);
      arc = 0n;
    }
  }
  const head = arcs[0] < 80n ? arcs[0] / 40n : 2n;
  return [head, arcs[0] - head * 40n, ...arcs.slice(1)].join('.');
}

function boolean(value) {
  const octets = content(value, BOOLEAN);
  need(octets.length === 1 && (octets[0] === 0 || octets[0] === 0xff), 'a boolean that is not DER');
  return octets[0] === 0xff;
}

/** The octets of a BIT STRING that has no unused bits. */
function wholeBits(value) {
  const octets = content(value, BITS);
  need(octets.length >= 1 && octets[0] === 0, 'a bit string with unused bits');
  return octets.subarray(1);
}

/** Whether a bit is set in a BIT STRING of named bits. */
function namedBit(value, bit) {
  const octets = content(value, BITS);
  need(octets.length >= 1 && octets[0] < 8, 'a broken bit string');
  const octet = octets[1 + (bit >> 3)] ?? 0;
  return ((octet >> (7 - (bit & 7))) & 1) === 1;
}

/** UTCTime or GeneralizedTime, as RFC 5280 section 4.1.2.5 wants them: seconds since 1970. */
function time(value) {
  const shown = value.content.toString('latin1');
  let digits = shown;
  if (value.tag === 0x17) {
    need(/^\d{12}Z$/.test(shown), 'a broken UTCTime');
    digits = (shown < '5' ? '20' : '19') + shown;
  } else {
    need(value.tag === 0x18 && /^\d{14}Z$/.test(shown), 'a broken time');
  }
  const parts = digits.match(/^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/).slice(1);
  const [date, clock] = [parts.slice(0, 3).join('-'), parts.slice(3).join(':')];
  const seconds = Date.parse(`${date}T${clock}Z`) / 1000;
  need(Number.isInteger(seconds), 'a time that does not exist');
  return seconds;
}

module.exports = {
  ...{ TYPE, BOOLEAN, INTEGER, BITS, OCTETS, NULL, OID, SEQUENCE, SET },
  ...{ need, first, only, several, inside, content, integer, oid, boolean, wholeBits, namedBit, time },
};
